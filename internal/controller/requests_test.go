package controller_test

import (
	"net/http"
	"strings"
	"sync"
)

// requests are what the operator asks of the API server.
type requests struct {
	mu  sync.Mutex
	all []*request
}

type request struct {
	method, path string
	dropped      bool // a busy API server did not take it, and the operator may send it again
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// record notes a request before it is sent: a test that sees what came of it finds it here.
func (r *requests) record(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(sent *http.Request) (*http.Response, error) {
		noted := &request{method: sent.Method, path: sent.URL.Path}
		r.mu.Lock()
		r.all = append(r.all, noted)
		r.mu.Unlock()
		response, err := next.RoundTrip(sent)
		if err != nil || response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError {
			r.mu.Lock()
			noted.dropped = true
			r.mu.Unlock()
		}
		return response, err
	})
}

// writes are the requests that wrote to a namespace since the last call, as VERB PATH, without those of events.
func (r *requests) writes(namespace string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var writes []string
	var others []*request
	for _, request := range r.all {
		switch {
		case !strings.Contains(request.path, "/namespaces/"+namespace+"/"):
			others = append(others, request)
		case request.dropped || request.method == http.MethodGet || strings.Contains(request.path, "/events"):
		default:
			writes = append(writes, request.method+" "+request.path)
		}
	}
	r.all = others
	return writes
}

// to are the requests to a path so far, as VERB PATH.
func (r *requests) to(path string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, request := range r.all {
		if request.path == path {
			all = append(all, request.method+" "+request.path)
		}
	}
	return all
}
