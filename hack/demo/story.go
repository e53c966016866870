package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/hack/demo/teller"
)

// story has the chapters.
type story struct{ *teller.Teller }

func (t *story) prepare(ctx context.Context) error {
	t.Heading("The operator is installed: its CRD, its rights, its Deployment")
	t.Kubectl(ctx, "apply", "--server-side", "-k", "config/default")
	t.Say("There are no nodes here to run a pod, so the manager runs as a process of this machine, with the rights of its ServiceAccount.")
	t.Quietly(ctx, "create", "namespace", namespace)
	t.Quietly(ctx, "label", "namespace", namespace, "istio-injection=enabled")
	t.Quietly(ctx, "config", "set-context", "--current", "--namespace", namespace)
	return t.Err
}

func (t *story) oneManifest(ctx context.Context) {
	t.Heading("One manifest: http://webserver/ is to reach a file on the internet, over verified TLS")
	t.File(first)
	t.Kubectl(ctx, "apply", "-f", first)
	t.Kubectl(ctx, "wait", "--for=condition=Ready", "externalroute/webserver", "--timeout=60s")
}

func (t *story) generatedObjects(ctx context.Context) {
	t.Heading("What the operator generated")
	t.Say("$ kubectl get service,serviceentry,destinationrule,virtualservice -o yaml   (without what the API server adds)")
	list := &unstructured.UnstructuredList{}
	t.Read(ctx, list, "get", "service,serviceentry,destinationrule,virtualservice", "-o", "json")
	for _, object := range list.Items {
		for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences", "namespace"} {
			unstructured.RemoveNestedField(object.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(object.Object, "status")
		text, err := yaml.Marshal(object.Object)
		t.Check(err)
		t.Print("---\n" + string(text))
	}
}

func (t *story) repair(ctx context.Context) {
	t.Heading("A generated object is deleted: the operator recreates it")
	list := &unstructured.UnstructuredList{}
	t.Read(ctx, list, "get", "destinationrules", "-o", "json")
	if t.Err != nil || len(list.Items) != 1 {
		t.Check(fmt.Errorf("got %d DestinationRules: want 1", len(list.Items)))
		return
	}
	lost := list.Items[0]
	t.Kubectl(ctx, "delete", "destinationrule", lost.GetName())
	deleted := time.Now()
	for {
		t.Read(ctx, list, "get", "destinationrules", "-o", "json")
		if t.Err != nil || time.Since(deleted) > time.Minute {
			t.Check(errors.New("the operator did not recreate the DestinationRule within a minute"))
			return
		}
		if len(list.Items) == 1 && list.Items[0].GetUID() != lost.GetUID() {
			break
		}
	}
	t.Say("Recreated within %d ms, with a new UID:", time.Since(deleted).Milliseconds())
	t.Kubectl(ctx, "get", "destinationrules")
	t.Kubectl(ctx, "events", "--for", "externalroute/webserver")
}

func (t *story) everySample(ctx context.Context) {
	t.Heading("Every feature has a sample")
	t.Kubectl(ctx, "apply", "-k", "config/samples")
	t.Quietly(ctx, "wait", "--for=condition=Ready", "externalroutes", "--selector=!needs", "--timeout=60s")
	t.Kubectl(ctx, "get", "extr", "-o", "wide")
}

func (t *story) refusal(ctx context.Context) {
	t.Heading("A wrong manifest: the API server rejects schema errors")
	t.File("hack/demo/refused.yaml")
	t.Refused(ctx, "apply", "-f", "hack/demo/refused.yaml")
}

func (t *story) mistake(ctx context.Context) {
	t.Heading("Another one: all other errors are reported in the status, with the path of the field")
	t.File("hack/demo/mistaken.yaml")
	t.Kubectl(ctx, "apply", "-f", "hack/demo/mistaken.yaml")
	t.Quietly(ctx, "wait", "--for=condition=Ready=False", "externalroute/mistaken", "--timeout=60s")
	t.Kubectl(ctx, "get", "extr", "mistaken")
	t.Kubectl(ctx, "get", "extr", "mistaken", "-o", `jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}`)
}

func (t *story) removal(ctx context.Context) {
	t.Heading("The routes are deleted, and everything that was generated with them")
	t.Kubectl(ctx, "delete", "extr", "--all")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		list := &unstructured.UnstructuredList{}
		t.Read(ctx, list, "get", "service,serviceentry,destinationrule,virtualservice", "-o", "json")
		if t.Err != nil || len(list.Items) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Err = fmt.Errorf("%d generated objects are left after a minute", len(list.Items))
			return
		}
	}
	t.Kubectl(ctx, "get", "service,serviceentry,destinationrule,virtualservice")
}
