//go:build linux

package main

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	every := func(d time.Duration, n int) (all []time.Time) {
		for i := range n {
			all = append(all, start.Add(time.Duration(i)*d))
		}
		return all
	}
	for name, test := range map[string]struct {
		pace
		want int
	}{
		"as often as may be":                      {pace{writes: every(time.Millisecond, 25)}, 0},
		"once more":                               {pace{writes: every(time.Millisecond, 26)}, 26},
		"often, but slowly":                       {pace{writes: every(50*time.Millisecond, 200)}, 0},
		"at full speed, while others act":         {pace{every(10*time.Millisecond, 100), every(250*time.Millisecond, 4)}, 100},
		"as often, since others act as often":     {pace{every(10*time.Millisecond, 100), every(50*time.Millisecond, 20)}, 0},
		"at full speed, long after another's act": {pace{every(time.Millisecond, 30), []time.Time{start.Add(-time.Minute)}}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.hottest(); got != test.want {
				t.Errorf("%d writes are too many, expected %d", got, test.want)
			}
		})
	}
}

func TestSubject(t *testing.T) {
	for object, want := range map[string]string{
		"externalroutes/route-02/status": "route-02", "externalroutes/route-02": "route-02", "serviceentries/route-02-2c4b6a00c0": "route-02",
		"services/route-02-too": "route-02", "configmaps/ca": "configmaps/ca", "externalroutes": "externalroutes",
	} {
		if got := subject(object); got != want {
			t.Errorf("%s belongs to %s, expected %s", object, got, want)
		}
	}
}
