package conflict_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	istiotype "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/internal/conflict"
)

const domain = "cluster.local"

// at is an object's metadata, so many seconds after the first one.
func at(namespace, name string, second int64) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.Unix(1_000_000+second, 0)}
}

func read[T any](t *testing.T, spec string, into *T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(spec), into); err != nil {
		t.Fatal(err)
	}
}

func virtualService(t *testing.T, meta metav1.ObjectMeta, spec string) *networkingv1.VirtualService {
	t.Helper()
	v := &networkingv1.VirtualService{ObjectMeta: meta}
	read(t, spec, &v.Spec)
	return v
}

func TestBeats(t *testing.T) {
	const (
		ours = "{hosts: [web], exportTo: [.], http: [{}]}"
		tcp  = "{hosts: [web], exportTo: [.], tcp: [{match: [{port: 5432}], route: [{destination: {host: db}}]}]}"
		some = "{hosts: [web], exportTo: [.], tcp: [{match: [{port: 5432, sourceLabels: {app: a}}], route: [{destination: {host: db}}]}]}"
	)
	for name, c := range map[string]struct {
		meta        metav1.ObjectMeta
		spec, ours  string
		want        bool
		notYetThere bool
	}{
		"an older one of the namespace wins":                            {meta: at("demo", "v", 1), spec: ours, want: true},
		"a younger one does not":                                        {meta: at("demo", "v", 3), spec: ours},
		"one of the same second wins by its name":                       {meta: at("demo", "a", 2), spec: ours, want: true},
		"... or loses":                                                  {meta: at("demo", "z", 2), spec: ours},
		"whoever exists beats what does not exist yet":                  {meta: at("demo", "z", 9), spec: ours, want: true, notYetThere: true},
		"an older public one loses to a private one":                    {meta: at("demo", "v", 1), spec: "{hosts: [web], http: [{}]}"},
		"a younger private one beats a public one":                      {meta: at("demo", "v", 3), spec: ours, ours: "{hosts: [web], exportTo: ['*'], http: [{}]}", want: true},
		"one exported to the namespace loses to a private one":          {meta: at("far", "v", 1), spec: "{hosts: [web.demo.svc.cluster.local], exportTo: [demo], http: [{}]}"},
		"one exported to a namespace beats a public one there":          {meta: at("far", "v", 3), spec: "{hosts: [web.demo.svc.cluster.local], exportTo: [near], http: [{}]}", ours: "{hosts: [web], exportTo: ['*'], http: [{}]}", want: true},
		"one that only another namespace sees is no rival":              {meta: at("far", "v", 1), spec: "{hosts: [web.demo.svc.cluster.local], exportTo: [.], http: [{}]}"},
		"one that nobody sees is no rival":                              {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: ['~'], http: [{}]}"},
		"the own namespace may be written out":                          {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [demo], http: [{}]}", want: true},
		"a short name is one of the rival's own namespace":              {meta: at("far", "v", 1), spec: "{hosts: [web], http: [{}]}", ours: "{hosts: [web], exportTo: ['*'], http: [{}]}"},
		"one for a shorter name takes it away":                          {meta: at("demo", "v", 1), spec: "{hosts: [web.demo], exportTo: [.], http: [{}]}", want: true},
		"a wildcard never wins over a name":                             {meta: at("demo", "v", 1), spec: "{hosts: ['*.demo.svc.cluster.local'], exportTo: [.], http: [{}]}"},
		"upper case is no other name":                                   {meta: at("demo", "v", 1), spec: "{hosts: [WEB], exportTo: [.], http: [{}]}", want: true},
		"one for a gateway alone is no rival":                           {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], gateways: [front], http: [{}]}"},
		"one for a gateway and the mesh is":                             {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], gateways: [front, mesh], http: [{}]}", want: true},
		"one whose routes are all for a gateway is no rival":            {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], gateways: [front, mesh], http: [{match: [{gateways: [front]}]}]}"},
		"one without http routes is no rival":                           {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], tcp: [{}]}"},
		"of tcp routes, an older one for the port wins":                 {meta: at("demo", "v", 1), spec: tcp, ours: tcp, want: true},
		"... a younger one does not":                                    {meta: at("demo", "v", 3), spec: tcp, ours: tcp},
		"... one for every port wins":                                   {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], tcp: [{route: [{destination: {host: db}}]}]}", ours: tcp, want: true},
		"... one for another port does not":                             {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], tcp: [{match: [{port: 6379}], route: [{destination: {host: db}}]}]}", ours: tcp},
		"... one without a destination does not":                        {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], tcp: [{match: [{port: 5432}]}]}", ours: tcp},
		"... one for a gateway alone does not":                          {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], gateways: [front, mesh], tcp: [{match: [{gateways: [front]}], route: [{destination: {host: db}}]}]}", ours: tcp},
		"... one for some pods does not":                                {meta: at("demo", "v", 1), spec: some, ours: tcp},
		"... one for the pods of ours does":                             {meta: at("demo", "v", 1), spec: some, ours: some, want: true},
		"... an older public one loses to a private one":                {meta: at("demo", "v", 1), spec: "{hosts: [web], tcp: [{route: [{destination: {host: db}}]}]}", ours: tcp},
		"... a wildcard wins over a name":                               {meta: at("demo", "v", 1), spec: "{hosts: ['*.svc.cluster.local'], exportTo: [.], tcp: [{route: [{destination: {host: db}}]}]}", ours: tcp, want: true},
		"... one for a shorter name does not":                           {meta: at("demo", "v", 1), spec: "{hosts: [web.demo], exportTo: [.], tcp: [{route: [{destination: {host: db}}]}]}", ours: tcp},
		"http routes do not rival tcp routes":                           {meta: at("demo", "v", 1), spec: ours, ours: tcp},
		"tcp routes do not rival http routes":                           {meta: at("demo", "v", 1), spec: tcp},
		"a wildcard with tcp routes does not rival http routes":         {meta: at("demo", "v", 1), spec: "{hosts: ['*.svc.cluster.local'], exportTo: [.], tcp: [{route: [{destination: {host: db}}]}], http: [{}]}"},
		"one for other pods is no rival":                                {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], http: [{match: [{sourceLabels: {app: a}}]}]}"},
		"one for the pods of our selector is":                           {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], http: [{match: [{sourceLabels: {app: a}}]}]}", ours: "{hosts: [web], exportTo: [.], http: [{match: [{sourceLabels: {app: a, v: '1'}}]}]}", want: true},
		"one with a route for all pods beside one for some is":          {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], http: [{match: [{sourceLabels: {app: a}}]}, {}]}", want: true},
		"one for pods of another namespace is no rival":                 {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], http: [{match: [{sourceNamespace: far}]}]}"},
		"one for another port is no rival":                              {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], http: [{match: [{port: 8080}]}]}", ours: "{hosts: [web], exportTo: [.], http: [{match: [{port: 80}]}]}"},
		"one for our port is":                                           {meta: at("demo", "v", 1), spec: "{hosts: [web], exportTo: [.], http: [{match: [{port: 80}]}]}", ours: "{hosts: [web], exportTo: [.], http: [{match: [{port: 80}]}]}", want: true},
		"one for another host is no rival":                              {meta: at("demo", "v", 1), spec: "{hosts: [shop], exportTo: [.], http: [{}]}"},
		"one of another namespace counts where ours is exported to all": {meta: at("far", "v", 1), spec: "{hosts: [web.demo.svc.cluster.local], http: [{}]}", ours: "{hosts: [web], exportTo: ['*'], http: [{}]}", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ours == "" {
				c.ours = ours
			}
			rival := virtualService(t, c.meta, c.spec)
			mine := conflict.VirtualServiceFacts(virtualService(t, at("demo", "mine", 2), c.ours), domain)
			if c.notYetThere {
				mine.Created = time.Time{}
			}
			facts := conflict.VirtualServiceFacts(rival, domain)
			if _, beats := conflict.Beats(facts, mine); beats != c.want {
				t.Errorf("beats: %v", beats)
			}
		})
	}
}

func TestServiceEntriesOfOneHost(t *testing.T) {
	const (
		led = `{hosts: [h.example.com], resolution: DNS, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}],
			endpoints: [{address: a.example.com}, {address: b.example.com, ports: {https: 8443}}]}`
		ours    = "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}]}"
		inPlace = `{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.],
			ports: [{number: 443, name: https, protocol: TLS}, {number: 80, name: http, protocol: HTTP, targetPort: 1}]}`
		opened = "declares port 80, on which the route upgrades the host in place: requests would leave in plaintext without the VirtualService. " +
			"Remove port 80 from it, or delete it"
	)
	for name, c := range map[string]struct {
		second int64
		labels map[string]string
		ours   string // the one above when empty
		spec   string
		want   string
	}{
		"the same is no matter": {second: 1, spec: ours},
		"more ports are no matter": {second: 1, spec: `{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.],
			ports: [{number: 443, name: tls, protocol: HTTPS}, {number: 80, name: http, protocol: HTTP}]}`},
		"an older one without our port takes it away": {
			second: 1, want: "has other ports, labels or exportTo and is older, so that Istio does not add the route's ports: change it to agree with the route, or delete it",
			spec: "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 8443, name: tls, protocol: TLS}]}",
		},
		"... not with our labels": {
			second: 1, labels: map[string]string{"managed": "same"},
			spec: "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 8443, name: tls, protocol: TLS}]}",
		},
		"... and not when it is younger": {
			second: 3,
			spec:   "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 8443, name: tls, protocol: TLS}]}",
		},
		"another protocol, although it is younger and comes after ours": {
			second: 3, want: "has another protocol for the same port: change it to agree with the route, or delete it",
			spec: "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: http, protocol: HTTP}]}",
		},
		"another resolution": {
			second: 1, want: "has another resolution, and Istio uses that of the older one: change it to agree with the route, or delete it",
			spec: "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: NONE, exportTo: [.], ports: [{number: 443, name: tls, protocol: TLS}]}",
		},
		"another location is no matter": {
			second: 1,
			spec:   "{hosts: [h.example.com], location: MESH_INTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 443, name: tls, protocol: TLS}]}",
		},
		"endpoints are put together, whoever is older": {
			second: 3, want: "has other endpoints for the same port, and Istio merges the endpoints of both: change it to agree with the route, or delete it",
			spec: `{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}],
				endpoints: [{address: other.example.com}]}`,
		},
		"endpoints that are the same, in another order": {
			second: 3, ours: led,
			spec: `{hosts: [h.example.com], resolution: DNS, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}],
				endpoints: [{address: b.example.com, ports: {https: 8443}}, {address: a.example.com}]}`,
		},
		"... one more": {
			second: 3, ours: led, want: "has other endpoints for the same port, and Istio merges the endpoints of both: change it to agree with the route, or delete it",
			spec: `{hosts: [h.example.com], resolution: DNS, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}],
				endpoints: [{address: a.example.com}, {address: b.example.com, ports: {https: 8443}}, {address: c.example.com}]}`,
		},
		"... whose ports have another name in the entry": {
			second: 3, ours: led, want: "has other endpoints for the same port, and Istio merges the endpoints of both: change it to agree with the route, or delete it",
			spec: `{hosts: [h.example.com], resolution: DNS, exportTo: [.], ports: [{number: 443, name: tls, protocol: TLS}],
				endpoints: [{address: a.example.com}, {address: b.example.com, ports: {https: 8443}}]}`,
		},
		"pods are other endpoints": {
			second: 3, ours: led, want: "has other endpoints for the same port, and Istio merges the endpoints of both: change it to agree with the route, or delete it",
			spec: `{hosts: [h.example.com], resolution: STATIC, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}], workloadSelector: {labels: {app: a}}}`,
		},
		"a plain port opens the one of a host in place, also if it is younger": {
			second: 3, ours: inPlace, want: opened,
			spec: "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 80, name: http, protocol: HTTP}]}",
		},
		"... and not if it leads nowhere itself": {second: 3, ours: inPlace, spec: inPlace},
		"one that everybody sees comes after ours": {
			second: 1,
			spec:   "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]}",
		},
		"another target is another endpoint, although nobody here sees it": {
			second: 3, want: "has other endpoints for the same port, and Istio merges the endpoints of both: change it to agree with the route, or delete it",
			spec: "{hosts: [h.example.com], resolution: DNS, exportTo: [far], ports: [{number: 443, name: other, protocol: TLS, targetPort: 9443}]}",
		},
		"one that the namespace does not see": {
			second: 1,
			spec:   "{hosts: [h.example.com], location: MESH_EXTERNAL, resolution: NONE, exportTo: [far], ports: [{number: 443, name: tls, protocol: TLS}]}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			mine := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "mine", 2)}
			mine.Labels = map[string]string{"managed": "same"}
			if c.ours == "" {
				c.ours = ours
			}
			read(t, c.ours, &mine.Spec)
			theirs := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "theirs", c.second)}
			theirs.Labels = c.labels
			read(t, c.spec, &theirs.Spec)
			if diff := cmp.Diff(c.want, conflict.ServiceEntryFacts(theirs).Disturbs(conflict.ServiceEntryFacts(mine))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDestinationRulesOfOneHost(t *testing.T) {
	for name, c := range map[string]struct {
		spec   string
		policy bool
		want   string
	}{
		"other subsets are no matter": {spec: "{host: h.example.com, exportTo: [.], subsets: [{name: theirs}]}"},
		"another exportTo":            {spec: "{host: h.example.com, subsets: [{name: theirs}]}", want: "has another exportTo, and Istio would ignore the older of the two: change it to agree with the route, or delete it"},
		"one for other namespaces":    {spec: "{host: h.example.com, exportTo: [far], trafficPolicy: {}}"},
		"the same subset":             {spec: "{host: h.example.com, exportTo: [.], subsets: [{name: ours}]}", want: "has a subset of the same name: change it to agree with the route, or delete it"},
		"settings that nobody can read": {
			spec: "{host: h.example.com, exportTo: [.], trafficPolicy: {}}",
			want: "has settings for the whole host that the operator cannot read, and the route's subsets would inherit them: change it to agree with the route, or delete it",
		},
		"settings that the subset replaces": {spec: "{host: h.example.com, exportTo: [.], trafficPolicy: {tls: {mode: SIMPLE}}}"},
		"settings that one subset does not replace": {
			spec: "{host: h.example.com, exportTo: [.], trafficPolicy: {tls: {mode: SIMPLE}, tunnel: {}, connectionPool: {tcp: {maxConnections: 7}}}}",
			want: "sets connectionPool, tunnel outside its subsets, and the route's subsets would inherit it: move it into subsets, or delete the rule",
		},
		"settings for another port": {
			spec: "{host: h.example.com, exportTo: [.], trafficPolicy: {portLevelSettings: [{port: {number: 80}, outlierDetection: {}}]}}",
		},
		"settings for the port": {
			spec: "{host: h.example.com, exportTo: [.], trafficPolicy: {portLevelSettings: [{port: {number: 443}, outlierDetection: {}}]}}",
			want: "sets outlierDetection outside its subsets, and the route's subsets would inherit it: move it into subsets, or delete the rule",
		},
		"settings that those for the port hide": {
			spec: "{host: h.example.com, exportTo: [.], trafficPolicy: {outlierDetection: {}, portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}}",
		},
		"a selector": {
			spec: "{host: h.example.com, workloadSelector: {matchLabels: {a: b}}}",
			want: "has a workloadSelector, and Istio does not merge it with the route's: each pod would use only one of the two: change it to agree with the route, or delete it",
		},
		"anything beside scope Host": {
			spec: "{host: h.example.com, exportTo: [.], subsets: [{name: theirs}]}", policy: true,
			want: "would inherit the settings of tls.scope Host: change it to agree with the route, or delete it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			mine := &networkingv1.DestinationRule{ObjectMeta: at("demo", "mine", 2)}
			read(t, "{host: h.example.com, exportTo: [.], subsets: [{name: ours, trafficPolicy: {tls: {}, connectionPool: {}}}, {name: more, trafficPolicy: {tls: {}}}]}", &mine.Spec)
			entry := &networkingv1.ServiceEntry{}
			read(t, "{hosts: [h.example.com], ports: [{number: 443, protocol: TLS}, {number: 80, protocol: HTTP, targetPort: 1}]}", &entry.Spec)
			if c.policy {
				mine.Spec.TrafficPolicy = &istio.TrafficPolicy{}
			}
			theirs := &networkingv1.DestinationRule{ObjectMeta: at("demo", "theirs", 1)}
			read(t, c.spec, &theirs.Spec)
			if diff := cmp.Diff(c.want, conflict.DestinationRuleFacts(theirs).Disturbs(conflict.DestinationRuleFacts(mine).Beside(conflict.ServiceEntryFacts(entry)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	claims := func(vs, rule string, labels map[string]string) []conflict.Claim {
		v := virtualService(t, at("demo", "v", 1), vs)
		d := &networkingv1.DestinationRule{ObjectMeta: at("demo", "d", 1)}
		read(t, rule, &d.Spec)
		if labels != nil {
			d.Spec.WorkloadSelector = &istiotype.WorkloadSelector{MatchLabels: labels}
		}
		return slices.Concat(conflict.ClaimsOf(v, domain), conflict.ClaimsOf(d, domain))
	}
	const web, subsets, hostWide = "{hosts: [web], http: [{}]}", "{host: h.example.com}", "{host: h.example.com, trafficPolicy: {}}"
	ports := func(spec string) []conflict.Claim {
		e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "e", 1)}
		read(t, "{hosts: [h.example.com], ports: ["+spec+"]}", &e.Spec)
		return conflict.ClaimsOf(e, domain)
	}
	const plain, tls = "{number: 80, protocol: HTTP}", "{number: 443, protocol: TLS}"
	const inPlace = tls + ", {number: 80, protocol: HTTP, targetPort: 1}"
	for name, c := range map[string]struct {
		a, b []conflict.Claim
		want bool
	}{
		"one port and protocol":                         {ports(plain), ports(plain + ", " + tls), false},
		"one port, two protocols":                       {ports(plain), ports("{number: 80, protocol: TLS}"), true},
		"in place beside https":                         {ports(inPlace), ports(tls), false},
		"in place beside plain http on that port":       {ports(inPlace), ports(plain), true},
		"in place beside TLS on that port":              {ports(inPlace), ports("{number: 80, protocol: TLS}"), true},
		"in place beside plain http on another port":    {ports(inPlace), ports("{number: 8080, protocol: HTTP}"), false},
		"in place twice: the claims on the host decide": {ports(inPlace), ports(inPlace), false},
		"the same host":                                 {claims(web, subsets, nil), claims(web, "{host: i.example.com}", nil), true},
		"another host":                                  {claims(web, subsets, nil), claims("{hosts: [shop], http: [{}]}", subsets, nil), false},
		"another port":                                  {claims("{hosts: [web], http: [{match: [{port: 80}]}]}", subsets, nil), claims("{hosts: [web], http: [{match: [{port: 81}]}]}", subsets, nil), false},
		"any port":                                      {claims("{hosts: [web], http: [{match: [{port: 80}]}]}", subsets, nil), claims(web, subsets, nil), true},
		"labels that no pod has together":               {claims("{hosts: [web], http: [{match: [{sourceLabels: {a: b}}]}]}", subsets, nil), claims("{hosts: [web], http: [{match: [{sourceLabels: {a: c}}]}]}", subsets, nil), false},
		"labels that one pod may have":                  {claims("{hosts: [web], http: [{match: [{sourceLabels: {a: b}}]}]}", subsets, nil), claims("{hosts: [web], http: [{match: [{sourceLabels: {c: d}}]}]}", subsets, nil), true},
		"scope Host beside scope Route":                 {claims(web, hostWide, nil), claims("{hosts: [shop], http: [{}]}", subsets, nil), true},
		"scope Host twice":                              {claims(web, hostWide, nil), claims("{hosts: [shop], http: [{}]}", hostWide, nil), true},
	} {
		t.Run(name, func(t *testing.T) {
			clashes := false
			for _, a := range c.a {
				for _, b := range c.b {
					if a.Clashes(b) != b.Clashes(a) {
						t.Errorf("%v and %v do not see it alike", a, b)
					}
					clashes = clashes || a.Clashes(b)
				}
			}
			if clashes != c.want {
				t.Errorf("clashes: %v", clashes)
			}
		})
	}
}
