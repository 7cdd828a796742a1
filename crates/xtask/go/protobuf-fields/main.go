// Command fields prints how the Kubernetes types look in protobuf, as their Go struct tags say: a line with the
// type's name, then a line a field, " FIELD NUMBER KIND". A field "-" is embedded: its fields are the type's own.
//
// KIND: int, bool, double, text, bytes, or the name of a type; before it "*" where a zero is not the same as
// nothing, "[]" for lists and "{}" for maps with text as keys. "[KIND]" is a list that is a message of its own, with
// the items in field 1.
package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	admission "k8s.io/api/admissionregistration/v1"
	aggregated "k8s.io/api/apidiscovery/v2"
	aggregated2beta1 "k8s.io/api/apidiscovery/v2beta1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling1 "k8s.io/api/autoscaling/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	flowcontrol "k8s.io/api/flowcontrol/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	devices "k8s.io/api/resource/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	registration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var roots = []any{
	core.Namespace{}, core.Node{}, core.Pod{}, core.Service{}, core.Endpoints{}, core.ConfigMap{}, core.Secret{},
	core.ServiceAccount{}, core.Event{}, events.Event{}, core.ReplicationController{}, core.PersistentVolume{},
	core.PersistentVolumeClaim{}, core.ResourceQuota{}, core.LimitRange{}, core.Binding{},
	apps.Deployment{}, apps.ReplicaSet{}, apps.StatefulSet{}, apps.DaemonSet{}, apps.ControllerRevision{},
	batch.Job{}, batch.CronJob{}, autoscaling.HorizontalPodAutoscaler{}, autoscaling1.HorizontalPodAutoscaler{},
	autoscaling1.Scale{},
	policy.PodDisruptionBudget{}, policy.Eviction{},
	networking.Ingress{}, networking.IngressClass{}, networking.NetworkPolicy{}, networking.IPAddress{},
	networking.ServiceCIDR{}, discovery.EndpointSlice{}, coordination.Lease{},
	certificates.CertificateSigningRequest{},
	rbac.Role{}, rbac.RoleBinding{}, rbac.ClusterRole{}, rbac.ClusterRoleBinding{},
	storage.StorageClass{}, scheduling.PriorityClass{}, extensions.CustomResourceDefinition{},
	authorization.SelfSubjectAccessReview{}, authorization.SelfSubjectRulesReview{}, authentication.SelfSubjectReview{},
	authentication.TokenRequest{}, authentication.TokenReview{}, authorization.SubjectAccessReview{},
	authorization.LocalSubjectAccessReview{},
	core.PodTemplate{}, storage.CSIDriver{}, storage.CSINode{}, storage.CSIStorageCapacity{},
	storage.VolumeAttributesClass{}, devices.DeviceClass{}, devices.ResourceClaim{},
	devices.ResourceClaimTemplate{}, devices.ResourceSlice{},
	storage.VolumeAttachment{}, node.RuntimeClass{}, flowcontrol.FlowSchema{},
	flowcontrol.PriorityLevelConfiguration{}, admission.ValidatingWebhookConfiguration{},
	admission.MutatingWebhookConfiguration{}, admission.ValidatingAdmissionPolicy{},
	admission.ValidatingAdmissionPolicyBinding{}, admission.MutatingAdmissionPolicy{},
	admission.MutatingAdmissionPolicyBinding{},
	meta.DeleteOptions{}, meta.Status{}, meta.PartialObjectMetadata{},
	meta.APIVersions{}, meta.APIGroupList{}, meta.APIGroup{}, meta.APIResourceList{},
	aggregated.APIGroupDiscoveryList{}, aggregated2beta1.APIGroupDiscoveryList{}, registration.APIService{},
}

func name(t reflect.Type) string {
	path := strings.TrimPrefix(t.PkgPath(), "k8s.io/")
	path = strings.TrimPrefix(path, "api/")
	path = strings.TrimPrefix(path, "apimachinery/pkg/apis/")
	path = strings.TrimPrefix(path, "apiextensions-apiserver/pkg/apis/")
	path = strings.TrimPrefix(path, "kube-aggregator/pkg/apis/")
	path = strings.TrimPrefix(path, "apimachinery/pkg/")
	return strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

// Types that write themselves.
var own = map[string]bool{"Time": true, "MicroTime": true, "Duration": true, "Quantity": true, "IntOrString": true,
	"RawExtension": true, "FieldsV1": true, "JSON": true, "JSONSchemaPropsOrBool": true,
	"JSONSchemaPropsOrArray": true, "JSONSchemaPropsOrStringArray": true}

var lines = map[string][]string{}
var seen = map[reflect.Type]bool{}

// What a type that is a message of its own can do.
var message = reflect.TypeFor[interface{ Unmarshal([]byte) error }]()

func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + kind(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64:
		return "int"
	case reflect.Float64:
		return "double"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		items := strings.TrimPrefix(kind(t.Elem()), "*")
		if reflect.PointerTo(t).Implements(message) {
			return "[" + items + "]"
		}
		return "[]" + items
	case reflect.Map:
		return "{}" + strings.TrimPrefix(kind(t.Elem()), "*")
	case reflect.Struct:
		if own[t.Name()] {
			return t.Name()
		}
		walk(t)
		return name(t)
	}
	panic(t.String())
}

func walk(t reflect.Type) {
	if seen[t] {
		return
	}
	seen[t] = true
	lines[name(t)] = nil
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		tag := strings.Split(field.Tag.Get("protobuf"), ",")
		if len(tag) < 2 {
			continue
		}
		json := strings.Split(field.Tag.Get("json"), ",")[0]
		if json == "" {
			json = "-"
		}
		lines[name(t)] = append(lines[name(t)], fmt.Sprintf(" %s %s %s", json, tag[1], kind(field.Type)))
	}
}

func main() {
	for _, root := range roots {
		walk(reflect.TypeOf(root))
	}
	names := make([]string, 0, len(lines))
	for name := range lines {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintln(os.Stdout, strings.Join(append([]string{name}, lines[name]...), "\n"))
	}
}
