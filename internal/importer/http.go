package importer

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// share is a destination's part of the requests of an http route.
type share struct {
	*target
	weight int32
}

// readHTTP makes a rule of each http route.
func (d *draft) readHTTP() {
	var rules []v1alpha1.Rule
	var shares [][]share
	for i, http := range d.v.Spec.Http {
		path := fmt.Sprintf("spec.http[%d]", i)
		d.lacks(unknown(path, http, "name", "match", "route", "rewrite", "timeout", "retries", "fault", "headers", "directResponse"))
		rule := v1alpha1.Rule{Timeout: duration(http.Timeout)}
		d.readMatches(&rule, http, path)
		d.readRetries(&rule, http.Retries, path+".retries")
		d.readHeaders(&rule, http, path+".headers")
		d.readFault(&rule, http.Fault, path+".fault")
		d.readDirectResponse(&rule, http.DirectResponse, path+".directResponse")
		if http.DirectResponse == nil {
			of := d.readShares(http, path)
			d.readRewrite(&rule, http, of, path)
			shares = append(shares, of)
		} else {
			shares = append(shares, nil)
		}
		rules = append(rules, rule)
	}
	if len(d.reasons) == 0 {
		d.finish(rules, shares)
	}
}

func (d *draft) readShares(http *istio.HTTPRoute, path string) (shares []share) {
	for i, to := range http.Route {
		d.lacks(unknown(fmt.Sprintf("%s.route[%d]", path, i), to, "destination", "weight", "headers"))
		if to.Headers != nil && !setsAuthorityAlone(to.Headers) {
			d.reason("%s.route[%d].headers: the headers of a destination have no counterpart in an ExternalRoute, those of a rule have", path, i)
		}
		if own := authorityOf(to.Headers); own != "" && len(http.Route) > 1 && authorityFor(http, to) != own {
			d.reason("%s.route[%d].headers sets another authority than the route: set it in one place", path, i)
		}
		if t := d.target(to.Destination, "http"); t != nil {
			s := share{t, to.Weight}
			if len(http.Route) == 1 {
				s.weight = 1
			}
			shares = append(shares, s)
		}
	}
	return shares
}

func setsAuthorityAlone(h *istio.Headers) bool {
	return authorityOf(h) != "" && len(h.Request.Set) == 1 && len(h.Request.Add)+len(h.Request.Remove) == 0 && h.Response == nil
}

// readMatches copies the matches. What all of them share about the port and the pods is the route's.
func (d *draft) readMatches(rule *v1alpha1.Rule, http *istio.HTTPRoute, path string) {
	first := d.v.Spec.Http[0].Match
	for i, m := range http.Match {
		at := fmt.Sprintf("%s.match[%d]", path, i)
		d.lacks(unknown(at, m, "name", "uri", "method", "headers", "queryParams", "port", "sourceLabels", "gateways"))
		if slices.ContainsFunc(m.Gateways, func(g string) bool { return g != "mesh" }) {
			d.reason("%s.gateways names another gateway than mesh: write a route with egressGateway", at)
		}
		d.checkShared(first, m, at)
		match := v1alpha1.Match{
			URI: d.text(m.Uri, at+".uri"), Method: d.text(m.Method, at+".method"),
			Headers: d.texts(m.Headers, at+".headers"), QueryParams: d.texts(m.QueryParams, at+".queryParams"),
		}
		rule.Match = append(rule.Match, match)
		d.port = m.Port
		d.selectPods(m.SourceLabels)
	}
	if len(http.Match) == 0 {
		d.checkShared(first, &istio.HTTPMatchRequest{}, path+".match")
	}
	if len(rule.Match) == 1 && rule.Match[0].URI == nil && rule.Match[0].Method == nil && len(rule.Match[0].Headers)+len(rule.Match[0].QueryParams) == 0 {
		rule.Match = nil // it matches all
	}
}

// checkShared checks that a match is for the port and the pods of the first one, if there is one: a route has the same for all rules.
func (d *draft) checkShared(first []*istio.HTTPMatchRequest, m *istio.HTTPMatchRequest, path string) {
	all := &istio.HTTPMatchRequest{}
	if len(first) > 0 {
		all = first[0]
	}
	if m.Port != all.Port {
		d.reason("%s.port differs from that of other matches, and a route serves one port", path)
	}
	if !maps.Equal(m.SourceLabels, all.SourceLabels) {
		d.reason("%s.sourceLabels differ from those of other matches, and a route is for one set of pods", path)
	}
}

func (d *draft) texts(matches map[string]*istio.StringMatch, path string) map[string]v1alpha1.StringMatch {
	if len(matches) == 0 {
		return nil
	}
	texts := map[string]v1alpha1.StringMatch{}
	for _, name := range slices.Sorted(maps.Keys(matches)) {
		if text := d.text(matches[name], path+"."+name); text != nil {
			texts[name] = *text
		} else {
			d.reason("%s.%s matches that the name is there, whatever its value: use regex .*", path, name)
		}
	}
	return texts
}

func (d *draft) text(m *istio.StringMatch, path string) *v1alpha1.StringMatch {
	switch kind := m.GetMatchType().(type) {
	case *istio.StringMatch_Exact:
		return &v1alpha1.StringMatch{Exact: v1alpha1.MatchText(kind.Exact)}
	case *istio.StringMatch_Prefix:
		return &v1alpha1.StringMatch{Prefix: v1alpha1.MatchText(kind.Prefix)}
	case *istio.StringMatch_Regex:
		return &v1alpha1.StringMatch{Regex: v1alpha1.Regex(kind.Regex)}
	case nil:
		return nil
	default:
		d.reason("%s", noWords(path))
		return nil
	}
}

// readRewrite copies the rewrite. The authority is left out if it is the URL's.
func (d *draft) readRewrite(rule *v1alpha1.Rule, http *istio.HTTPRoute, shares []share, path string) {
	rewrite := v1alpha1.Rewrite{}
	if r := http.Rewrite; r != nil {
		d.lacks(unknown(path+".rewrite", r, "uri", "authority", "uriRegexRewrite"))
		rewrite.URI = r.Uri
		if x := r.UriRegexRewrite; x != nil {
			rewrite.URIRegexRewrite = &v1alpha1.RegexRewrite{Match: x.Match, Rewrite: x.Rewrite}
		}
	}
	var authorities []string
	for i, s := range shares {
		wanted := cmp.Or(authorityFor(http, http.Route[i]), d.called(s.istio.Host))
		if wanted != "" && wanted != s.authority {
			authorities = append(authorities, wanted)
		}
	}
	if len(authorities) > 0 {
		slices.Sort(authorities)
		if len(slices.Compact(slices.Clone(authorities))) > 1 || len(authorities) != len(shares) {
			d.reason("%s: the destinations have authorities that are not those of their hosts, and a rule rewrites the authority for all of them", path)
		}
		rewrite.Authority = authorities[0]
	}
	if rewrite != (v1alpha1.Rewrite{}) {
		rule.Rewrite = &rewrite
	}
}

// called is the authority of requests that workloads send to the host of a destination itself, empty if they call an alias.
func (d *draft) called(host string) string {
	if !slices.Equal(d.v.Spec.Hosts, []string{host}) {
		return ""
	}
	if d.port != 0 && d.port != 80 {
		return fmt.Sprintf("%s:%d", host, d.port)
	}
	return host
}

func (d *draft) readRetries(rule *v1alpha1.Rule, r *istio.HTTPRetry, path string) {
	if r == nil {
		return
	}
	d.lacks(unknown(path, r, "attempts", "perTryTimeout", "retryOn"))
	rule.Retries = &v1alpha1.Retries{Attempts: new(r.Attempts)}
	if r.Attempts > 0 {
		rule.Retries.PerTryTimeout, rule.Retries.RetryOn = duration(r.PerTryTimeout), r.RetryOn
	}
	if r.Attempts == 2 && r.PerTryTimeout == nil && r.RetryOn == safeRetries {
		rule.Retries = nil // the route's own
	}
}

const safeRetries = "connect-failure,refused-stream"

func (d *draft) readHeaders(rule *v1alpha1.Rule, http *istio.HTTPRoute, path string) {
	if http.Headers == nil {
		return
	}
	headers := v1alpha1.Headers{
		Request: d.operations(http.Headers.Request, path+".request"), Response: d.operations(http.Headers.Response, path+".response"),
	}
	if headers.Request != nil && http.DirectResponse == nil {
		headers.Request.Remove = slices.DeleteFunc(headers.Request.Remove, func(n v1alpha1.HeaderName) bool { return isMeshHeader(string(n)) })
		if len(headers.Request.Set)+len(headers.Request.Add)+len(headers.Request.Remove) == 0 {
			headers.Request = nil
		}
	}
	if headers.Request != nil || headers.Response != nil {
		rule.Headers = &headers
	}
}

func isMeshHeader(name string) bool {
	return slices.Contains(translate.MeshHeaders(), strings.ToLower(name))
}

func (d *draft) operations(o *istio.Headers_HeaderOperations, path string) *v1alpha1.HeaderOperations {
	if o == nil || len(o.Set)+len(o.Add)+len(o.Remove) == 0 {
		return nil
	}
	operations := &v1alpha1.HeaderOperations{Set: d.values(o.Set, path+".set"), Add: d.values(o.Add, path+".add")}
	for _, name := range o.Remove {
		operations.Remove = append(operations.Remove, v1alpha1.HeaderName(name))
	}
	return operations
}

// values are those that Envoy sends literally. The authority is part of the rewrite.
func (d *draft) values(values map[string]string, path string) map[string]v1alpha1.HeaderValue {
	literal := map[string]v1alpha1.HeaderValue{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if lower := strings.ToLower(name); lower == "host" || lower == ":authority" {
			continue
		}
		value := strings.ReplaceAll(values[name], "%%", "\x00")
		if strings.Contains(value, "%") {
			d.reason("%s.%s: the value has a command of Envoy's, and a route sends values literally", path, name)
		}
		literal[name] = v1alpha1.HeaderValue(strings.ReplaceAll(value, "\x00", "%"))
	}
	if len(literal) == 0 {
		return nil
	}
	return literal
}

func (d *draft) readFault(rule *v1alpha1.Rule, f *istio.HTTPFaultInjection, path string) {
	if f == nil {
		return
	}
	rule.Fault = &v1alpha1.Fault{}
	if a := f.Abort; a != nil {
		d.lacks(unknown(path+".abort", a, "percentage", "httpStatus"))
		rule.Fault.Abort = &v1alpha1.FaultAbort{Percentage: d.percent(a.Percentage, path+".abort"), HTTPStatus: a.GetHttpStatus()}
	}
	if l := f.Delay; l != nil {
		d.lacks(unknown(path+".delay", l, "percentage", "fixedDelay"))
		rule.Fault.Delay = &v1alpha1.FaultDelay{Percentage: d.percent(l.Percentage, path+".delay"), FixedDelay: duration(l.GetFixedDelay())}
	}
}

func (d *draft) percent(p *istio.Percent, path string) *int32 {
	if value := p.GetValue(); p == nil || value != math.Trunc(value) {
		d.reason("%s.percentage: a route takes whole percents", path)
	}
	return new(int32(p.GetValue()))
}

func (d *draft) readDirectResponse(rule *v1alpha1.Rule, r *istio.HTTPDirectResponse, path string) {
	if r == nil {
		return
	}
	d.lacks(unknown(path, r, "status", "body"))
	if _, isBytes := r.GetBody().GetSpecifier().(*istio.HTTPBody_Bytes); isBytes {
		d.reason("%s", noWords(path+".body.bytes"))
	}
	rule.DirectResponse = &v1alpha1.DirectResponse{Status: int32(r.Status), Body: r.GetBody().GetString_()} //nolint:gosec // admission bounds it
}

// readTCP makes a route of the only tcp route.
func (d *draft) readTCP() {
	if len(d.v.Spec.Tcp) != 1 {
		d.reason("spec.tcp has several routes, and an ExternalRoute over TCP has no rules")
		return
	}
	tcp := d.v.Spec.Tcp[0]
	d.lacks(unknown("spec.tcp[0]", tcp, "match", "route"))
	for i, m := range tcp.Match {
		d.lacks(unknown(fmt.Sprintf("spec.tcp[0].match[%d]", i), m, "port", "sourceLabels"))
		d.port = m.Port
		d.selectPods(m.SourceLabels)
	}
	if len(tcp.Match) > 1 {
		d.reason("spec.tcp[0].match has several entries, and an ExternalRoute over TCP has one port")
	}
	var shares []share
	for i, to := range tcp.Route {
		d.lacks(unknown(fmt.Sprintf("spec.tcp[0].route[%d]", i), to, "destination", "weight"))
		if t := d.target(to.Destination, "tcp"); t != nil {
			s := share{t, to.Weight}
			if len(tcp.Route) == 1 {
				s.weight = 1
			}
			shares = append(shares, s)
		}
	}
	if len(d.reasons) == 0 {
		d.finish([]v1alpha1.Rule{{}}, [][]share{shares})
	}
}
