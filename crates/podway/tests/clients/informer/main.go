// Command informer tells what a client-go informer sees of the pods of a cluster until one of the given name comes.
package main

import (
	"fmt"
	"log"
	"os"

	core "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		log.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
	informer := factory.Core().V1().Pods().Informer()
	done := make(chan struct{})
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			pod := object.(*core.Pod)
			fmt.Printf("%s initial=%t\n", pod.Name, initial)
			if pod.Name == os.Args[1] {
				close(done)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	if !cache.WaitForCacheSync(stop, informer.HasSynced) {
		log.Fatal("no initial state")
	}
	fmt.Println("synced")
	<-done
}
