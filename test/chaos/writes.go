//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// write is one request to write something, whatever became of it.
type write struct {
	by, namespace, object, verb string
	code                        int32
}

// often is how often the operator may write one object within a second, and each how often more for each act of another client: what answers at full speed
// writes an object fifty times and more. A repair is two writes, or three if another write comes in between.
const often, each = 25, 5

// pace is when the operator wrote an object, and when other clients wrote it or its route.
type pace struct{ writes, acts []time.Time }

// hottest is the second in which the operator wrote the object too often, as the number of its writes, and 0 if there is none.
func (p pace) hottest() int {
	most, first := 0, 0
	for last, now := range p.writes {
		for now.Sub(p.writes[first]) >= time.Second {
			first++
		}
		acts := 0
		for _, act := range p.acts {
			if since := now.Sub(act); since >= 0 && since < 2*time.Second { // one that came shortly before the second counts, too
				acts++
			}
		}
		if n := last - first + 1; n > often+each*acts {
			most = max(most, n)
		}
	}
	return most
}

// subject is the route that an object belongs to, as far as its name tells, or else the object.
func subject(object string) string {
	if _, name, found := strings.Cut(object, "/"); found && strings.HasPrefix(name, "route-") && len(name) >= len(nameOf(0)) {
		return name[:len(nameOf(0))]
	}
	return object
}

// writes reads the API server's audit log as it grows.
type writes struct {
	file   *os.File
	reader *bufio.Reader
	half   string // of a line that is still being written
	// paces are when the operator wrote an object, and acts when other clients wrote something of a subject.
	paces map[string][]time.Time
	acts  map[string][]time.Time
	// changes are what was committed in the namespaces that were asked for.
	changes []change
}

// writesFromNow begins at the end of what the log holds.
func (c *cluster) writesFromNow() (*writes, error) {
	file, err := os.Open(c.auditLog)
	if err != nil {
		return nil, err
	}
	_, err = file.Seek(0, io.SeekEnd)
	return &writes{file: file, reader: bufio.NewReader(file), paces: map[string][]time.Time{}, acts: map[string][]time.Time{}}, err
}

func (w *writes) close() { _ = w.file.Close() } // it was read

// next are the writes into a namespace since the last call: the operator's, and those of others that did something. It notes when the operator wrote what.
func (w *writes) next(namespace string) (operators, others []write, err error) {
	for {
		line, err := w.reader.ReadString('\n')
		w.half += line
		if errors.Is(err, io.EOF) {
			return operators, others, nil
		}
		if err != nil {
			return nil, nil, err
		}
		var event auditv1.Event
		err = json.Unmarshal([]byte(w.half), &event)
		w.half = ""
		if err != nil || event.ObjectRef == nil || event.Stage != auditv1.StageResponseComplete { // a line may be cut where the API server was killed
			continue
		}
		one := write{by: event.User.Username, namespace: event.ObjectRef.Namespace, verb: event.Verb}
		one.object = strings.TrimSuffix(event.ObjectRef.Resource+"/"+event.ObjectRef.Name+"/"+event.ObjectRef.Subresource, "/")
		if event.ResponseStatus != nil {
			one.code = event.ResponseStatus.Code
		}
		if one.namespace == namespace {
			c, err := changeOf(&event)
			if err != nil {
				return nil, nil, err
			}
			if c != nil {
				w.changes = append(w.changes, *c)
			}
		}
		switch {
		case one.namespace != namespace:
		case one.by == operatorAccount:
			operators = append(operators, one)
			w.paces[one.object] = append(w.paces[one.object], event.StageTimestamp.Time)
		case one.code < http.StatusBadRequest:
			others = append(others, one)
			w.acts[subject(one.object)] = append(w.acts[subject(one.object)], event.StageTimestamp.Time)
		}
	}
}
