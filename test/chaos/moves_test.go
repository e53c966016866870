//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

// recorded is what a row of the table says of one write: when, who, what, and what the object has then. Without parts it is a deletion.
type recorded struct {
	at     int64 // in milliseconds
	who    string
	object string // RESOURCE/NAME
	parts  string // separated by blanks
	hosts  string
}

const (
	entry   = "serviceentries/web-1"
	other   = "serviceentries/web-2"
	rule    = "destinationrules/web-1"
	service = "virtualservices/web"
)

func TestMovesAreAudited(t *testing.T) {
	const settle = 300 * time.Millisecond
	for name, c := range map[string]struct {
		writes []recorded
		found  []string
	}{
		"a new alias serves at once": {writes: []recorded{
			{0, "creates", entry, "a", ""}, {1, "creates", rule, "s", ""}, {2, "creates", service, "a s", "web"},
		}},
		"a route onto a Service with pods waits": {
			writes: []recorded{{0, "creates", entry, "a", ""}, {1, "creates", rule, "s", ""}, {300, "creates", service, "a s", "taken-01"}},
			found:  []string{service + " leads to s 1ms"},
		},
		"a route onto a host in place waits": {
			writes: []recorded{{0, "creates", entry, "a", ""}, {0, "creates", rule, "s", ""}, {299, "creates", service, "a s", "a.example.com"}},
			found:  []string{service + " leads to a 1ms", service + " leads to s 1ms"},
		},
		"a move waits before traffic and before the end": {writes: []recorded{
			{0, "creates", entry, "a", ""},
			{0, "creates", service, "a", "web"},
			{1000, "creates", other, "b", ""},
			{1300, "writes", service, "b", "web"},
			{1600, "deletes", entry, "", ""},
		}},
		"a move is early both times": {
			writes: []recorded{
				{0, "creates", entry, "a", ""},
				{0, "creates", service, "a", "web"},
				{1000, "creates", other, "b", ""},
				{1290, "writes", service, "b", "web"},
				{1500, "deletes", entry, "", ""},
			},
			found: []string{entry + " loses a 90ms", service + " leads to b 10ms"},
		},
		"a subset goes early": {
			writes: []recorded{
				{0, "creates", rule, "s", ""},
				{0, "creates", service, "s", "web"},
				{1000, "writes", rule, "s t", ""},
				{1300, "writes", service, "t", "web"},
				{1310, "writes", rule, "t", ""},
			},
			found: []string{rule + " loses s 290ms"},
		},
		"what traffic needs goes": {
			writes: []recorded{{0, "creates", entry, "a", ""}, {0, "creates", service, "a", "web"}, {1000, "deletes", entry, "", ""}},
			found:  []string{entry + " loses a, which"},
		},
		"another user may do all that": {writes: []recorded{
			{0, "creates", entry, "a", ""},
			{0, "creates", service, "a", "web"},
			{1000, "user creates", other, "b", ""},
			{1001, "user writes", service, "b", "web"},
			{1002, "user deletes", entry, "", ""},
		}},
		"what a route leaves goes at once, its VirtualService first": {writes: []recorded{
			{0, "creates", entry, "a", ""},
			{0, "creates", service, "a", "web"},
			{1000, "deletes", service, "", ""},
			{1001, "deletes", entry, "", ""},
		}},
		"a part that another object of the route has stays": {writes: []recorded{
			{0, "creates", entry, "a", ""}, {0, "creates", service, "a", "web"}, {1000, "creates", other, "a", ""}, {1001, "deletes", entry, "", ""},
		}},
		"a part that was gone for a while has to settle again": {
			writes: []recorded{
				{0, "creates", entry, "a", ""},
				{0, "creates", other, "b", ""},
				{0, "creates", service, "a", "web"},
				{1000, "user deletes", other, "", ""},
				{1010, "creates", other, "b", ""},
				{1011, "writes", service, "b", "web"},
			},
			found: []string{service + " leads to b 299ms"},
		},
		"what came before the log has settled": {writes: []recorded{
			{0, "writes", entry, "a", ""}, {1, "writes", service, "a", "a.example.com"}, {2, "writes", service, "a b", "a.example.com"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			found := auditMoves(changesOf(c.writes), settle)
			if len(found) != len(c.found) {
				t.Fatalf("found %v, not %v", found, c.found)
			}
			for i, want := range c.found {
				if !strings.HasPrefix(found[i].what, want) {
					t.Errorf("found %v, not %v", found[i], want)
				}
			}
		})
	}
}

func changesOf(writes []recorded) []change {
	var changes []change
	for _, w := range writes {
		resource, name, _ := strings.Cut(w.object, "/")
		c := change{
			received: time.UnixMilli(w.at), byOperator: !strings.HasPrefix(w.who, "user "), created: strings.HasSuffix(w.who, "creates"),
			resource: resource, name: name,
		}
		if w.parts != "" {
			c.object = &standing{owner: "route", hosts: []string{w.hosts}, parts: map[string]bool{}, provides: resource != "virtualservices"}
			for part := range strings.FieldsSeq(w.parts) {
				c.object.parts[part] = true
			}
		}
		changes = append(changes, c)
	}
	return changes
}
