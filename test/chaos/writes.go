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

// often is how often the operator may write one object within a second: somebody who undoes what it does must not be answered at full speed.
const often = 10

// pace is when the operator wrote an object.
type pace []time.Time

// most is how often it did within a second, at the worst time.
func (p pace) most() int {
	most, first := 0, 0
	for last := range p {
		for p[last].Sub(p[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// writes reads the API server's audit log as it grows.
type writes struct {
	file   *os.File
	reader *bufio.Reader
	half   string // of a line that is still being written
	paces  map[string]pace
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
	return &writes{file: file, reader: bufio.NewReader(file), paces: map[string]pace{}}, err
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
		}
	}
}
