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

// DNS answers for the names of the outside world.
type DNS struct {
	mu      sync.Mutex
	records map[string]record
	socket  net.PacketConn
}

type record struct {
	ttl       uint32
	delay     time.Duration
	addresses []netip.Addr
}

func startDNS(address string) (*DNS, error) {
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	d := &DNS{records: map[string]record{}, socket: socket}
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

// Lookup returns what sidecars are told about a name.
func (d *DNS) Lookup(name string) (addresses []netip.Addr, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, known := d.records[name]
	return r.addresses, known
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
		d.mu.Lock()
		r, known := d.records[strings.TrimSuffix(query.Questions[0].Name.String(), ".")]
		d.mu.Unlock()
		time.AfterFunc(r.delay, func() {
			if answer, err := answer(query, r, known); err == nil {
				_, _ = d.socket.WriteTo(answer, from) // a lost packet is DNS's ordinary life
			}
		})
	}
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
