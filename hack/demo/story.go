package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The chapters of the story. Every command that is shown is run as it stands.

func (t *teller) prepare(ctx context.Context) error {
	t.heading("The operator is installed: its CRD, its rights, its Deployment")
	t.kubectl(ctx, "apply", "--server-side", "-k", "config/default")
	t.say("There are no nodes here to run a pod, so the manager runs as a process of this machine, with the rights of its ServiceAccount.")
	t.quietly(ctx, "create", "namespace", namespace)
	t.quietly(ctx, "config", "set-context", "--current", "--namespace", namespace)
	return t.err
}

func (t *teller) oneManifest(ctx context.Context) {
	t.heading("One manifest: http://webserver/ shall be a file on the internet, over verified TLS")
	t.file(first)
	t.kubectl(ctx, "apply", "-f", first)
	t.kubectl(ctx, "wait", "--for=condition=Ready", "externalroute/webserver", "--timeout=60s")
}

func (t *teller) generatedObjects(ctx context.Context) {
	t.heading("What the operator made of it")
	t.say("$ kubectl get service,serviceentry,destinationrule,virtualservice -o yaml   (without what the API server adds)")
	list := &unstructured.UnstructuredList{}
	t.read(ctx, list, "get", "service,serviceentry,destinationrule,virtualservice", "-o", "json")
	for _, object := range list.Items {
		for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences", "namespace"} {
			unstructured.RemoveNestedField(object.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(object.Object, "status")
		text, err := yaml.Marshal(object.Object)
		t.err = firstOf(t.err, err)
		t.print("---\n" + string(text))
	}
}

func (t *teller) repair(ctx context.Context) {
	t.heading("Somebody deletes one of them: it comes back")
	list := &unstructured.UnstructuredList{}
	t.read(ctx, list, "get", "destinationrules", "-o", "json")
	if t.err != nil || len(list.Items) != 1 {
		t.err = firstOf(t.err, fmt.Errorf("got %d DestinationRules: want 1", len(list.Items)))
		return
	}
	lost := list.Items[0]
	t.kubectl(ctx, "delete", "destinationrule", lost.GetName())
	deleted := time.Now()
	for {
		t.read(ctx, list, "get", "destinationrules", "-o", "json")
		if t.err != nil || time.Since(deleted) > time.Minute {
			t.err = firstOf(t.err, errors.New("the DestinationRule did not come back within a minute"))
			return
		}
		if len(list.Items) == 1 && list.Items[0].GetUID() != lost.GetUID() {
			break
		}
	}
	t.say("Back within %d ms, with a new UID:", time.Since(deleted).Milliseconds())
	t.kubectl(ctx, "get", "destinationrules")
	t.kubectl(ctx, "events", "--for", "externalroute/webserver")
}

func (t *teller) everySample(ctx context.Context) {
	t.heading("Every feature has a sample, and they stand beside each other")
	t.kubectl(ctx, "apply", "-k", "config/samples")
	t.quietly(ctx, "wait", "--for=condition=Ready", "externalroutes", "--all", "--timeout=60s")
	t.kubectl(ctx, "get", "extr", "-o", "wide")
}

func (t *teller) refusal(ctx context.Context) {
	t.heading("A wrong manifest: most mistakes are refused at once")
	t.file("hack/demo/refused.yaml")
	t.refused(ctx, "apply", "-f", "hack/demo/refused.yaml")
}

func (t *teller) mistake(ctx context.Context) {
	t.heading("Another one: what no schema can tell, the status tells, with the field's path")
	t.file("hack/demo/mistaken.yaml")
	t.kubectl(ctx, "apply", "-f", "hack/demo/mistaken.yaml")
	t.quietly(ctx, "wait", "--for=condition=Ready=False", "externalroute/mistaken", "--timeout=60s")
	t.kubectl(ctx, "get", "extr", "mistaken")
	t.kubectl(ctx, "get", "extr", "mistaken", "-o", `jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}`)
}

func (t *teller) removal(ctx context.Context) {
	t.heading("The routes are deleted: nothing stays behind")
	t.kubectl(ctx, "delete", "extr", "--all")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		list := &unstructured.UnstructuredList{}
		t.read(ctx, list, "get", "service,serviceentry,destinationrule,virtualservice", "-o", "json")
		if t.err != nil || len(list.Items) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.err = fmt.Errorf("%d generated objects are left after a minute", len(list.Items))
			return
		}
	}
	t.kubectl(ctx, "get", "service,serviceentry,destinationrule,virtualservice")
}
