package random

import (
	"fmt"
	"net/url"
	"strings"
)

// overTCP makes a spec one of a TCP route: what a single draw of all fields hits rarely, since all destinations must be of one kind, and many fields must not
// be there.
func overTCP(d *drawing, spec map[string]any) {
	destinations, _ := spec["destinations"].([]any)
	if len(destinations) == 0 {
		return
	}
	for _, field := range []string{"rules", "timeout", "retries", "meshHeaders"} {
		delete(spec, field)
	}
	hosts, _ := spec["hosts"].([]any)
	var aliases []any
	for _, host := range hosts {
		if name, _ := host.(string); !strings.Contains(name, ".") || strings.Contains(name, ".svc") {
			aliases = append(aliases, name)
		}
	}
	if len(aliases) == 0 {
		aliases = []any{"db"}
	}
	spec["hosts"] = aliases
	idle := d.one("", "", "8h")
	for _, item := range destinations {
		if destination, is := item.(map[string]any); is {
			destinationOverTCP(d, destination, idle)
		}
	}
}

func destinationOverTCP(d *drawing, destination map[string]any, idle string) {
	raw, _ := destination["url"].(string)
	u, err := url.Parse(raw)
	if err != nil {
		return
	}
	scheme, port := d.one("tcp", "tls"), u.Port()
	if port == "" {
		port = d.one("5432", "6379", "443", "80", "3306", "1")
	}
	destination["url"] = fmt.Sprintf("%s://%s:%s", scheme, u.Hostname(), port)
	delete(destination, "protocol")
	if tls, is := destination["tls"].(map[string]any); is {
		delete(tls, "scope")
		if scheme == "tcp" {
			delete(destination, "tls")
		}
	}
	pool, _ := destination["connectionPool"].(map[string]any)
	if pool == nil {
		pool = map[string]any{}
	}
	for _, field := range []string{"maxPendingRequests", "maxRequestsPerConnection", "idleTimeout"} {
		delete(pool, field)
	}
	if idle != "" {
		pool["idleTimeout"] = idle
	}
	if destination["connectionPool"] = pool; len(pool) == 0 {
		delete(destination, "connectionPool")
	}
}
