//go:build linux

package bench

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The domains of Kubernetes' own names.
const (
	clusterDomain = "cluster.local"
	services      = "svc." + clusterDomain
)

// DNS answers for the names of the outside world, and for NAME.NAMESPACE.svc.cluster.local as a cluster's DNS does.
type DNS struct {
	mu      sync.Mutex
	records map[string]record
	socket  net.PacketConn
	service func(namespace, name string) (netip.Addr, error)
}

type record struct {
	ttl       uint32
	delay     time.Duration
	addresses []netip.Addr
}

func startDNS(address string, service func(namespace, name string) (netip.Addr, error)) (*DNS, error) {
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	d := &DNS{records: map[string]record{}, socket: socket, service: service}
	go d.serve()
	return d, nil
}

// Set makes a name point to addresses. Sidecars ask again after the time to live, which has whole seconds, and get each answer after the delay.
func (d *DNS) Set(name string, ttl, delay time.Duration, addresses ...string) {
	r := record{ttl: uint32(ttl / time.Second), delay: delay}
	for _, address := range addresses {
		r.addresses = append(r.addresses, netip.MustParseAddr(address))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records[name] = r
}

// Remove makes a name unknown.
func (d *DNS) Remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.records, name)
}

// Lookup returns the addresses of a name.
func (d *DNS) Lookup(name string) (addresses []netip.Addr, known bool) {
	r, known := d.find(name)
	return r.addresses, known
}

func (d *DNS) find(name string) (r record, known bool) {
	if short, found := strings.CutSuffix(name, "."+services); found {
		service, namespace, found := strings.Cut(short, ".")
		if !found || strings.Contains(namespace, ".") {
			return record{}, false
		}
		address, err := d.service(namespace, service)
		return record{addresses: []netip.Addr{address}}, err == nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r, known = d.records[name]
	return r, known
}

func (d *DNS) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := d.socket.ReadFrom(packet)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(packet[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		go d.reply(query, from)
	}
}

func (d *DNS) reply(query dnsmessage.Message, to net.Addr) {
	r, known := d.find(strings.TrimSuffix(query.Questions[0].Name.String(), "."))
	time.AfterFunc(r.delay, func() {
		if answer, err := answer(query, r, known); err == nil {
			_, _ = d.socket.WriteTo(answer, to) // a lost packet is DNS's ordinary life
		}
	})
}

func answer(query dnsmessage.Message, r record, known bool) ([]byte, error) {
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true, RecursionDesired: query.RecursionDesired, RecursionAvailable: true},
		Questions: query.Questions,
	}
	if !known {
		message.RCode = dnsmessage.RCodeNameError
	}
	question := query.Questions[0]
	for _, address := range r.addresses {
		if question.Type == dnsmessage.TypeA && address.Is4() {
			header := dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class, TTL: r.ttl}
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		}
	}
	return message.Pack()
}
