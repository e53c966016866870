package policy

import "k8s.io/apimachinery/pkg/labels"

// Public is for tests.
var Public = public

// Count counts how often the selectors of the policies so far are matched.
func (p *Policies) Count(matches *int) {
	for _, one := range p.all {
		if _, already := one.selector.(counted); !already {
			one.selector = counted{one.selector, matches}
		}
	}
}

type counted struct {
	labels.Selector
	matches *int
}

func (c counted) Matches(namespace labels.Labels) bool {
	*c.matches++
	return c.Selector.Matches(namespace)
}
