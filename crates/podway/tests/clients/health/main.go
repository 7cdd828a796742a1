// Command health is what probes of a lab's kubelet ask in tests: gRPC's own health service on one port, HTTPS with a
// certificate that nobody vouches for on another.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func serveHTTPS(port string) {
	answer := func(writer http.ResponseWriter, request *http.Request) {
		fmt.Printf("https %s\n", request.URL.Path)
		if request.URL.Path != "/good" {
			writer.WriteHeader(http.StatusInternalServerError)
		}
	}
	server := http.Server{
		Addr: ":" + port, Handler: http.HandlerFunc(answer),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate()}},
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}

func tell(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	fmt.Printf("grpc %q\n", request.(*grpc_health_v1.HealthCheckRequest).Service)
	return handler(ctx, request)
}

func main() {
	go serveHTTPS(os.Args[2])
	listener, err := net.Listen("tcp", ":"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	states := health.NewServer()
	states.SetServingStatus("asleep", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer(grpc.UnaryInterceptor(tell))
	grpc_health_v1.RegisterHealthServer(server, states)
	log.Fatal(server.Serve(listener))
}
