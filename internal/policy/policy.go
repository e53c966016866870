// Package policy decides which hosts the routes of a namespace may reach, and by which road. It is pure: it knows the policies that it was given and the
// labels of a namespace, and has no client and no clock.
package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Policies are the policies of a cluster. They may be used by several goroutines.
type Policies struct {
	mu  sync.Mutex
	all map[string]*policy
	// roads are the policies that name an egress gateway, by that.
	roads map[v1alpha1.GatewayReference]map[string]*policy
	// scopes are those that were asked for, by namespace.
	scopes map[string]*Scope
}

// policy is a policy that was read.
type policy struct {
	name     string
	selector labels.Selector
	allow    []*allowance
	// gateway is the road of the routes, nil for what each of them says.
	gateway *v1alpha1.GatewayReference
}

// Selects reports whether a policy selects a namespace with these labels.
type Selects func(namespace map[string]string) bool

// Put adds a policy, or replaces the one of its name. It returns which namespaces the change concerns: those that the old policy or the new one selects.
func (p *Policies) Put(changed *v1alpha1.ExternalRoutePolicy) Selects {
	read := &policy{name: changed.Name, selector: selectorOf(changed), gateway: changed.Spec.EgressGateway}
	for i := range changed.Spec.Allow {
		read.allow = append(read.allow, readAllowance(&changed.Spec.Allow[i]))
	}
	return p.replace(changed.Name, read)
}

// Delete removes a policy, and returns which namespaces that concerns.
func (p *Policies) Delete(name string) Selects { return p.replace(name, nil) }

func (p *Policies) replace(name string, now *policy) Selects {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.all[name]
	if p.all == nil {
		p.all, p.scopes, p.roads = map[string]*policy{}, map[string]*Scope{}, map[v1alpha1.GatewayReference]map[string]*policy{}
	}
	if p.all[name] = now; now == nil {
		delete(p.all, name)
	}
	if before != nil && before.gateway != nil {
		delete(p.roads[*before.gateway], name)
	}
	if now != nil && now.gateway != nil {
		if p.roads[*now.gateway] == nil {
			p.roads[*now.gateway] = map[string]*policy{}
		}
		p.roads[*now.gateway][name] = now
	}
	concerns := func(namespace map[string]string) bool { return before.selects(namespace) || now.selects(namespace) }
	maps.DeleteFunc(p.scopes, func(_ string, s *Scope) bool { return concerns(s.labels) })
	return concerns
}

// Forget forgets a namespace.
func (p *Policies) Forget(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.scopes, namespace)
}

// Len is the number of policies.
func (p *Policies) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// Leading returns which namespaces have policies whose egress gateway is one of those asked for, nil if there are no such policies.
func (p *Policies) Leading(asked func(v1alpha1.GatewayReference) bool) Selects {
	p.mu.Lock()
	defer p.mu.Unlock()
	var leading []*policy
	for gateway, policies := range p.roads {
		if len(policies) > 0 && asked(gateway) {
			leading = slices.AppendSeq(leading, maps.Values(policies))
		}
	}
	if len(leading) == 0 {
		return nil
	}
	return func(namespace map[string]string) bool {
		return slices.ContainsFunc(leading, func(one *policy) bool { return one.selects(namespace) })
	}
}

// Selectors returns which namespaces each policy selects, by its name.
func (p *Policies) Selectors() map[string]Selects {
	p.mu.Lock()
	defer p.mu.Unlock()
	selectors := make(map[string]Selects, len(p.all))
	for name, one := range p.all {
		selectors[name] = one.selects
	}
	return selectors
}

func (p *policy) selects(namespace map[string]string) bool {
	return p != nil && p.selector.Matches(labels.Set(namespace))
}

// selectorOf reads the selector of a policy. The API server admits only those that can be read; one that cannot selects every namespace, so that a mistake
// allows nothing.
func selectorOf(p *v1alpha1.ExternalRoutePolicy) labels.Selector {
	selector, err := readSelector(p.Spec.NamespaceSelector)
	if err != nil {
		return labels.Everything()
	}
	return selector
}

func readSelector(s *v1alpha1.NamespaceSelector) (labels.Selector, error) {
	read := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	if s == nil {
		return labels.Everything(), nil
	}
	for key, value := range s.MatchLabels {
		read.MatchLabels[key] = string(value)
	}
	for _, e := range s.MatchExpressions {
		requirement := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, value := range e.Values {
			requirement.Values = append(requirement.Values, string(value))
		}
		read.MatchExpressions = append(read.MatchExpressions, requirement)
	}
	return metav1.LabelSelectorAsSelector(read)
}

// Condition is the Ready condition of a policy. It carries no time and no generation.
func Condition(p *v1alpha1.ExternalRoutePolicy) metav1.Condition {
	if _, err := readSelector(p.Spec.NamespaceSelector); err != nil {
		return metav1.Condition{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalid,
			Message: fmt.Sprintf("spec.namespaceSelector: %v. Until it is corrected, the policy applies to all namespaces.", err),
		}
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonValid, Message: "The policy is valid and applies.",
	}
}

// Scope is what the policies that select a namespace allow together, and the road that they set.
type Scope struct {
	labels map[string]string
	// policies are the names of the policies, sorted. A scope of none is open.
	policies []string
	// exact are the entries that name a host, and wildcards those whose wildcard has this domain.
	exact, wildcards map[string][]*allowance
	all              []*allowance
	// roads are the policies that name an egress gateway, sorted by name.
	roads []*policy
}

// For returns what the routes of a namespace may reach. It looks at all policies only once for the labels that a namespace has.
func (p *Policies) For(namespace string, has map[string]string) *Scope {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.scopes[namespace]; known != nil && maps.Equal(known.labels, has) {
		return known
	}
	var selecting []*policy
	for _, one := range p.all {
		if one.selects(has) {
			selecting = append(selecting, one)
		}
	}
	slices.SortFunc(selecting, func(a, b *policy) int { return strings.Compare(a.name, b.name) })
	scope := &Scope{labels: has, exact: map[string][]*allowance{}, wildcards: map[string][]*allowance{}}
	for _, one := range selecting {
		scope.add(one)
	}
	if p.scopes == nil {
		p.scopes = map[string]*Scope{}
	}
	p.scopes[namespace] = scope
	return scope
}

func (s *Scope) add(p *policy) {
	s.policies = append(s.policies, p.name)
	if p.gateway != nil {
		s.roads = append(s.roads, p)
	}
	for _, a := range p.allow {
		s.all = append(s.all, a)
		for _, host := range a.hosts {
			if domain, wildcard := cutWildcard(host); wildcard {
				s.wildcards[domain] = append(s.wildcards[domain], a)
			} else {
				s.exact[host] = append(s.exact[host], a)
			}
		}
	}
}
