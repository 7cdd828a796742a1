// Command informer uses a cluster as programs with client-go do. `informer POD` tells what an informer sees of the pods
// until POD comes. `informer POD MEDIA` makes one round of the verbs and reads the API's description before; all that is
// said about objects has to be said in MEDIA then.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	openapi "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applyautoscaling "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	space = "default"
	name  = "round"
)

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if len(os.Args) > 2 {
		discoverer, media := discovery.NewDiscoveryClientForConfigOrDie(config), os.Args[2]
		config.ContentType, config.AcceptContentTypes = media, media
		config.Wrap(func(inner http.RoundTripper) http.RoundTripper { return only{inner, media} })
		clients := kubernetes.NewForConfigOrDie(config)
		round(ctx, clients)
		ask(ctx, clients)
		describe(ctx, discoverer)
	}
	inform(ctx, kubernetes.NewForConfigOrDie(config), os.Args[1])
}

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func expect(found, wanted any) {
	if found != wanted {
		log.Output(2, fmt.Sprintf("%v, not %v", found, wanted))
		os.Exit(1)
	}
}

// only lets answers of one media type through.
type only struct {
	http.RoundTripper
	media string
}

func (it only) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := it.RoundTripper.RoundTrip(request)
	if err == nil && !strings.HasPrefix(response.Header.Get("Content-Type"), it.media) {
		log.Fatalf("%s %s: %s, %q", request.Method, request.URL, response.Status, response.Header.Get("Content-Type"))
	}
	return response, err
}

// next is the name and kind of what happens next.
func next(events watch.Interface) string {
	event, open := <-events.ResultChan()
	if !open {
		return "the end"
	}
	object, isScaler := event.Object.(*autoscaling.HorizontalPodAutoscaler)
	if !isScaler {
		return fmt.Sprintf("%s %#v", event.Type, event.Object)
	}
	return fmt.Sprintf("%s %s", event.Type, object.Name)
}

// scaler is of a kind that no controller of a lab writes to.
func scaler() *autoscaling.HorizontalPodAutoscaler {
	least, value := int32(2), resource.MustParse("1500m")
	return &autoscaling.HorizontalPodAutoscaler{
		ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: autoscaling.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscaling.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
			MinReplicas:    &least,
			MaxReplicas:    5,
			Metrics: []autoscaling.MetricSpec{{
				Type: autoscaling.ResourceMetricSourceType,
				Resource: &autoscaling.ResourceMetricSource{
					Name:   core.ResourceCPU,
					Target: autoscaling.MetricTarget{Type: autoscaling.AverageValueMetricType, AverageValue: &value},
				},
			}},
		},
	}
}

// round goes through all verbs.
func round(ctx context.Context, clients kubernetes.Interface) {
	scalers := clients.AutoscalingV2().HorizontalPodAutoscalers(space)
	mine := meta.ListOptions{LabelSelector: "app=" + name}
	_, err := scalers.Get(ctx, name, meta.GetOptions{})
	expect(errors.IsNotFound(err), true)
	before, err := scalers.List(ctx, mine)
	check(err)
	expect(len(before.Items), 0)
	mine.ResourceVersion = before.ResourceVersion
	events, err := scalers.Watch(ctx, mine)
	check(err)

	_, err = scalers.Create(ctx, scaler(), meta.CreateOptions{})
	check(err)
	expect(next(events), "ADDED round")
	_, err = scalers.Create(ctx, scaler(), meta.CreateOptions{})
	expect(errors.IsAlreadyExists(err), true)
	found, err := scalers.Get(ctx, name, meta.GetOptions{})
	check(err)
	expect(found.Spec.Metrics[0].Resource.Target.AverageValue.String(), "1500m")

	found.Spec.MaxReplicas = 6
	updated, err := scalers.Update(ctx, found, meta.UpdateOptions{})
	check(err)
	expect(updated.Spec.MaxReplicas, int32(6))
	expect(next(events), "MODIFIED round")
	_, err = scalers.Update(ctx, found, meta.UpdateOptions{})
	expect(errors.IsConflict(err), true)

	updated.Status.CurrentReplicas, updated.Spec.MaxReplicas = 3, 9
	updated, err = scalers.UpdateStatus(ctx, updated, meta.UpdateOptions{})
	check(err)
	expect([2]int32{updated.Status.CurrentReplicas, updated.Spec.MaxReplicas}, [2]int32{3, 6})
	expect(next(events), "MODIFIED round")

	patch := []byte(`{"spec":{"minReplicas":null,"maxReplicas":7}}`)
	updated, err = scalers.Patch(ctx, name, types.StrategicMergePatchType, patch, meta.PatchOptions{})
	check(err)
	expect([2]int32{*updated.Spec.MinReplicas, updated.Spec.MaxReplicas}, [2]int32{1, 7})
	expect(next(events), "MODIFIED round")
	labels := applyautoscaling.HorizontalPodAutoscaler(name, space).WithLabels(map[string]string{"applied": "yes"})
	updated, err = scalers.Apply(ctx, labels, meta.ApplyOptions{FieldManager: name})
	check(err)
	expect(len(updated.Labels), 2)
	expect(next(events), "MODIFIED round")

	check(scalers.Delete(ctx, name, meta.DeleteOptions{Preconditions: meta.NewUIDPreconditions(string(updated.UID))}))
	expect(next(events), "DELETED round")
	check(scalers.DeleteCollection(ctx, meta.DeleteOptions{}, meta.ListOptions{LabelSelector: mine.LabelSelector}))
	events.Stop()
	fmt.Println("round")
}

// ask uses what is no plain object.
func ask(ctx context.Context, clients kubernetes.Interface) {
	scale, err := clients.AppsV1().Deployments(space).GetScale(ctx, "web", meta.GetOptions{})
	check(err)
	expect(scale.Spec.Replicas, int32(2))
	_, err = clients.AppsV1().Deployments(space).UpdateScale(ctx, "web", scale, meta.UpdateOptions{})
	check(err)
	review := authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorization.ResourceAttributes{Verb: "create", Resource: "pods", Namespace: space},
	}}
	answer, err := clients.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &review, meta.CreateOptions{})
	check(err)
	expect(answer.Status.Allowed, true)
	wish := authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{name}}}
	token, err := clients.CoreV1().ServiceAccounts(space).CreateToken(ctx, "default", &wish, meta.CreateOptions{})
	check(err)
	expect(strings.Count(token.Status.Token, "."), 2)
}

// describe reads version 2 of the API's description, which comes in protobuf, and compares it with the one in JSON.
func describe(ctx context.Context, client *discovery.DiscoveryClient) {
	found, err := client.OpenAPISchema()
	check(err)
	request := client.RESTClient().Get().AbsPath("/openapi/v2").SetHeader("Accept", "application/json")
	text, err := request.DoRaw(ctx)
	check(err)
	wanted, err := openapi.ParseDocument(text)
	check(err)
	if !proto.Equal(found, wanted) {
		log.Fatalf("OpenAPI of %d definitions and %d paths in protobuf, %d and %d in JSON",
			len(found.GetDefinitions().GetAdditionalProperties()), len(found.GetPaths().GetPath()),
			len(wanted.GetDefinitions().GetAdditionalProperties()), len(wanted.GetPaths().GetPath()))
	}
	fmt.Println(len(found.GetDefinitions().GetAdditionalProperties()), "definitions")
}

// inform tells of pods until the one of this name comes.
func inform(ctx context.Context, clients kubernetes.Interface, last string) {
	factory := informers.NewSharedInformerFactory(clients, 0)
	informer := factory.Core().V1().Pods().Informer()
	done := make(chan struct{})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			pod := object.(*core.Pod)
			fmt.Printf("%s initial=%t\n", pod.Name, initial)
			if pod.Name == last {
				close(done)
			}
		},
	})
	check(err)
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		log.Fatal("no initial state")
	}
	fmt.Println("synced")
	select {
	case <-done:
	case <-ctx.Done():
		log.Fatal(ctx.Err())
	}
}
