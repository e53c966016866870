package cli

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/internal/translate"
)

// passLimit is more passes than the plan of any edit needs.
const passLimit = 100

// steps drives the operator's plan from the objects of before until nothing is left to do. It returns what happens when, and what stands then.
func (j *judgement) steps(before objects, settle time.Duration) ([]string, objects, error) {
	if j.route == nil || j.refusal != nil && j.refusal.Effect == translate.Keep {
		return nil, before, nil
	}
	began := time.Unix(0, 0)
	wanted := plan.Wanted{Suspended: j.route.Spec.Suspend, Withdrawn: j.refusal != nil, Settle: settle}
	if j.translation != nil {
		wanted.Objects, wanted.OntoTraffic = j.translation.Objects, j.translation.OntoTraffic()
	}
	after, moments := maps.Clone(before), &plan.Moments{Began: began.Add(-time.Hour)} // what stands has settled
	var steps []string
	now := began
	for range passLimit {
		p := plan.Next(wanted, plan.Standing{Owned: after, Created: began}, moments, now)
		if len(p.Apply)+len(p.Delete) == 0 && p.Again <= 0 {
			return steps, after, nil
		}
		if words := words(p, wanted.OntoTraffic); words != "" {
			steps = append(steps, at(now.Sub(began))+": "+words)
		}
		moments.Start(p, now)
		for _, step := range p.Apply {
			after[step.Key()] = stored(step.Object)
			moments.Returned(p, step, nil, now)
		}
		for _, deletion := range p.Delete {
			delete(after, deletion.Key)
			moments.Deleted(deletion.Key, nil, now)
		}
		now = now.Add(p.Again)
	}
	return nil, nil, fmt.Errorf("the plan of ExternalRoute %s/%s does not end after %d passes", j.route.Namespace, j.route.Name, passLimit)
}

func at(since time.Duration) string {
	if since == 0 {
		return "at once"
	}
	return "after " + since.String()
}

// words is what a plan does. Objects of one stage are written at the same time.
func words(p plan.Plan, onTraffic bool) string {
	var parts []string
	for i := 0; i < len(p.Apply); {
		verb, stage := verbOf(p, p.Apply[i], onTraffic), p.Apply[i].Stage
		var names []string
		for ; i < len(p.Apply) && p.Apply[i].Stage == stage && verbOf(p, p.Apply[i], onTraffic) == verb; i++ {
			names = append(names, p.Apply[i].Key().String())
		}
		parts = append(parts, verb+strings.Join(names, ", "))
	}
	if len(p.Delete) > 0 {
		names := make([]string, len(p.Delete))
		for i, deletion := range p.Delete {
			names[i] = deletion.String()
		}
		parts = append(parts, "deletes "+strings.Join(names, ", "))
	}
	return strings.Join(parts, "; then ")
}

// verbOf is what a step does. The first VirtualService moves traffic only if workloads already send requests to its hosts.
func verbOf(p plan.Plan, step plan.Step, onTraffic bool) string {
	verb := "creates "
	if step.Exists {
		verb = "updates "
	}
	if step.Stage == translate.StageTraffic && p.MovesTraffic() && (step.Exists || onTraffic) {
		return "moves traffic: " + verb
	}
	return verb
}
