package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/externalroute/externalroute/internal/translate"
)

// What etcd takes in a request.
const limit = 1536 << 10

func TestLargestRouteFitsIntoEtcd(t *testing.T) {
	for sentence, filling := range map[string][2]string{
		"of letters": {"a", "a"},
		"of the characters whose JSON is longest, where they are allowed": {"<", "&"},
	} {
		t.Run(sentence, func(t *testing.T) {
			manifest := route("largest", largest(filling[0], filling[1]))
			if found := judge(t.Context(), t, manifest); len(found) > 0 {
				t.Fatal(found)
			}
			create(t, manifest)
			size := stored(t, "largest")
			t.Logf("%d bytes are stored", size)
			if size > limit/3 { // status and the field lists of several appliers come on top
				t.Error("that is too much")
			}
		})
	}
}

// The VirtualService is the largest of what is generated, and larger than the route: a rule without a uri stands in it twice, each time with the base
// path.
func TestWhatTheLargestRouteGeneratesFitsIntoEtcd(t *testing.T) {
	spec := largest("<", "&")
	spec["hosts"] = names(16, 63)
	for _, rule := range spec["rules"].([]any) {
		delete(rule.(object), "rewrite")
		for _, match := range rule.(object)["match"].([]any) {
			match.(object)["method"] = match.(object)["uri"]
			delete(match.(object), "uri")
		}
	}
	route, refused := offline.Admit(t.Context(), route("largest", spec))
	if len(refused) > 0 {
		t.Fatal(refused.ToAggregate())
	}
	translation, refusal := translate.Translate(route, translate.Mesh{ClusterDomain: translate.DefaultClusterDomain})
	if refusal != nil {
		t.Fatal(refusal.Message())
	}
	for _, generated := range translation.Objects {
		size := len(encode(generated.Object))
		t.Logf("%s: %d bytes", translate.KeyOf(generated), size)
		if size > limit*9/10 {
			t.Error("that is too much")
		}
	}
}

// largest is a spec in which every list is full, every sum exhausted, and of two fields that exclude each other the larger one is there. Free text is
// of the one character, names and paths are of the other.
func largest(text, name string) object {
	const duration = "99999h99999m99999s99999ms"
	host := func(i int) string { return string(rune('a'+i)) + longName[1:] }
	label := func(i int) string { return unlike(i, 63, "a") }
	full := func(count int, item func(i int) any) []any { return list(item)(count).([]any) }
	entries := func(count, key int, value any) object {
		all := object{}
		for i := range count {
			all[unlike(i, key, name)] = value
		}
		return all
	}
	destination := func(i int) any {
		return object{
			"name": label(i), "weight": 1000000, "resolution": "DNS", "protocol": "HTTP2",
			"url":       "https://" + longName + "/" + times(2048-len("https:///")-len(longName), name),
			"endpoints": full(16, func(i int) any { return object{"address": host(i), "port": 65535, "priority": 0} }),
			"tls": object{
				"scope": "Route", "sni": longName, "subjectAltNames": full(16, func(i int) any { return host(i) }),
				"clientCertificateRef": object{"kind": "Secret", "name": times(253, "a")},
			},
			"connectionPool": object{
				"maxConnections": 1<<31 - 1, "maxPendingRequests": 1<<31 - 1, "maxRequestsPerConnection": 1 << 29,
				"connectTimeout": duration, "idleTimeout": duration,
			},
			"outlierDetection": object{
				"consecutive5xxErrors": 1<<31 - 1, "maxEjectionPercent": 100, "interval": duration,
				"baseEjectionTime": duration,
			},
		}
	}
	aRule := func(i int) any { // 32 of them
		match := func(j int) any { // 64: 64*232 + 48*(16+16) = 16384
			match := object{"uri": object{"regex": times(232, text)}}
			if i < 4 && j == 0 {
				match["headers"] = entries(12, 16, object{"regex": times(16, text)})
			}
			return match
		}
		if i < 2 {
			changes := entries(12, 26, times(144, text)) // 48: 48*(26+144) = 8160
			return object{
				"match":          full(2, match),
				"headers":        object{"request": object{"set": changes}, "response": object{"add": changes}},
				"directResponse": object{"status": 599, "body": times(4096, text)},
			}
		}
		return object{
			"match": full(2, match),
			"rewrite": object{
				"uriRegexRewrite": object{"match": times(136, text), "rewrite": times(137, text)},
				"authority":       times(253, "a"),
			}, // 30*273 = 8190
			"destinations": full(8, func(i int) any { return object{"name": label(i), "weight": 1000000} }),
			"timeout":      duration,
			"retries":      object{"attempts": 100, "perTryTimeout": duration, "retryOn": "5xx" + times(127, ",503")},
			"fault": object{"abort": object{"percentage": 100, "httpStatus": 599}, "delay": object{
				"percentage": 100,
				"fixedDelay": duration,
			}},
		}
	}
	labels := object{}
	for i := range 16 {
		labels[unlike(i, 32, "a")] = times(32, "a")
	}
	return object{
		"hosts":            full(16, func(i int) any { return ("web.default.svc." + host(i))[:253] }),
		"destinations":     full(8, destination),
		"rules":            full(32, aRule),
		"timeout":          duration,
		"retries":          object{"attempts": 100, "perTryTimeout": duration, "retryOn": "5xx" + times(127, ",503")},
		"workloadSelector": object{"matchLabels": labels},
		"suspend":          true,
	}
}

// unlike is a text of the given length that is unlike those of other numbers.
func unlike(number, length int, filling string) string {
	return string(rune('a'+number)) + times(length-1, filling)
}

func names(count, length int) []any {
	return list(func(i int) any { return unlike(i, length, "a") })(count).([]any)
}

// stored asks etcd how many bytes it holds for a route.
func stored(t *testing.T, name string) int {
	t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte("/registry/networking.externalroute.io/externalroutes/default/" + name))
	response, err := http.Post(plane.Etcd+"/v3/kv/range", "application/json", bytes.NewBufferString(encode(object{"key": key})))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Kvs []struct{ Value []byte } }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Kvs) != 1 {
		t.Fatalf("etcd holds %d objects of that name", len(answer.Kvs))
	}
	return len(answer.Kvs[0].Value)
}
