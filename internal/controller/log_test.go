package controller_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
)

// operatorLog is the log of all operators of the suite.
var operatorLog = &syncedLog{}

// syncedLog keeps the lines that operators log.
type syncedLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *syncedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// of are the last lines that have to do with a namespace.
func (l *syncedLog) of(namespace string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, line := range l.lines {
		if strings.Contains(line, namespace) || strings.Contains(line, "discovery") || strings.Contains(line, `"level":"error"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

// explained are the errors that an operator may log in this suite: what their messages and errors match, and why they are none of its faults.
var explained = []struct{ message, err, reason string }{
	{
		`^Server rejected event`, `unable to create new content in namespace .* because it is being terminated$`,
		"a story has ended and its namespace's objects go one by one: a route reports that before a refused write shows why",
	},
	{
		`^Failed to watch ConfigMaps$`, `^configmaps is forbidden`,
		"a story takes the right to read ConfigMaps away",
	},
	{
		`^Failed to watch namespaces$`, `^namespaces is forbidden`,
		"a story takes the right to read namespaces away",
	},
	{
		`^Failed to watch ExternalRoutePolicies$`, `^externalroutepolicies.networking.externalroute.io is forbidden`,
		"a story takes the right to read policies away",
	},
	{
		`^Failed to watch ExternalRoutePolicies$`, `^no matches for kind "ExternalRoutePolicy"`,
		"a story installs the CRD of policies later",
	},
	{
		``, `panic: a bug$`,
		"a story makes writes of one route panic",
	},
	{
		``, `the answer was lost$`,
		"a story loses answers of the API server",
	},
	{
		`^Reconciler error$`, `ValidatingAdmissionPolicy .* denied request: not here`,
		"a story makes the API server refuse VirtualServices",
	},
	{
		`^Failed to watch$`, `the server is currently unable to handle the request|context canceled`,
		"a story cuts the watches and hides Services",
	},
	{
		`^Failed to watch$`, `the server could not find the requested resource`,
		"a story deletes Istio's CRDs: the watches fail until the operator learns of that",
	},
	{
		`^Failed to find out whether CustomResourceDefinitions are installed$`, `which discovery does not show: the API server serves it$`,
		"a story deletes Istio's CRDs: discovery says so before the API server does, and nothing is dropped until both agree",
	},
	{
		`^Reconciler error$`, `create not allowed while custom resource definition is terminating$|the server could not find the requested resource`,
		"a story deletes Istio's CRDs: the operator repairs objects until it learns of that",
	},
	{
		``, `\bEOF$|connection reset by peer$|client connection (lost|force closed)`,
		"a story cuts all connections, some in the middle of a request: the next one does it again",
	},
	{
		``, `context canceled$`,
		"a story stops the operator, which may be in the middle of a request: the next one does it again",
	},
	{
		`^failed to get informer from cache$`, `^Timeout: failed waiting for .* Informer to sync$`,
		"a story stops the operator while it starts",
	},
	{
		``, `etcdserver: request timed out|context deadline exceeded|the server was unable to return a response in the time allotted`,
		"the machine is too busy for its API server: the operator tries again",
	},
}

// unexplained are the error lines that no entry explains.
func (l *syncedLog) unexplained() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var unexplained []string
	for _, line := range l.lines {
		var entry struct{ Level, Msg, Error string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "error" && !isExplained(entry.Msg, entry.Error) {
			unexplained = append(unexplained, line)
		}
	}
	return unexplained
}

func isExplained(message, err string) bool {
	for _, e := range explained {
		if regexp.MustCompile(e.message).MatchString(message) && regexp.MustCompile(e.err).MatchString(err) {
			return true
		}
	}
	return false
}

// judgeLog fails the suite when an operator logged an error that has no explanation. With OPERATOR_LOG it writes the whole log to that file.
func judgeLog(code int) int {
	if file := os.Getenv("OPERATOR_LOG"); file != "" {
		if err := os.WriteFile(file, []byte(strings.Join(operatorLog.lines, "")), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if lines := operatorLog.unexplained(); len(lines) > 0 {
		fmt.Fprintf(os.Stderr, "--- FAIL: operators logged errors that log_test.go does not explain:\n%s", strings.Join(lines, ""))
		return 1
	}
	return code
}
