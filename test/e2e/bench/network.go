//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The networks of the bench exist only inside network namespaces, so that two benches on one machine do not meet: the world in one, each app in one of
// its own, joined to the world by a pair of virtual interfaces.
const (
	handles      = "/var/run/netns" // where ip keeps the namespaces
	prefix       = "extr"
	nameServer   = "10.84.0.1"
	serviceRange = "10.96.0.0/16"
)

// network is a network namespace.
type network struct {
	name string
	file *os.File
}

// networks are all network namespaces of a bench.
type networks struct {
	mu  sync.Mutex
	all []*network
}

// add makes a network namespace whose resolver is the bench's.
func (s *networks) add(name string) (*network, error) {
	n := &network{name: fmt.Sprintf("%s%d-%s", prefix, os.Getpid(), name)}
	s.mu.Lock()
	s.all = append(s.all, n)
	s.mu.Unlock()
	if err := run("ip", "netns", "add", n.name); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(handles, n.name))
	if err != nil {
		return nil, err
	}
	n.file = file
	if err := os.MkdirAll(n.files(), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(n.files(), "resolv.conf"), []byte("nameserver "+nameServer+"\n"), 0o644); err != nil {
		return nil, err
	}
	return n, run("ip", "-n", n.name, "link", "set", "lo", "up")
}

func (s *networks) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var problems []error
	for _, n := range s.all {
		problems = append(problems, n.remove())
	}
	s.all = nil
	return errors.Join(problems...)
}

// files is the folder that `ip netns exec` lays over /etc.
func (n *network) files() string { return "/etc/netns/" + n.name }

func (n *network) remove() error {
	if n.file != nil {
		_ = n.file.Close()
		n.file = nil
	}
	if _, err := os.Stat(filepath.Join(handles, n.name)); errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(n.files())
	}
	return errors.Join(run("ip", "netns", "del", n.name), os.RemoveAll(n.files()))
}

// inside runs a function on a thread that is in the network namespace: the sockets that it makes stay there.
func (n *network) inside(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	result := f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(fmt.Sprintf("leave network namespace %s: %v", n.name, err)) // the thread would carry it into other goroutines
	}
	runtime.UnlockOSThread()
	return result
}

func (n *network) listen(address string) (listener net.Listener, err error) {
	err = n.inside(func() error {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// dial connects to an IP address and port: a name would be resolved on another thread.
func (n *network) dial(ctx context.Context, address string) (connection net.Conn, err error) {
	err = n.inside(func() error {
		connection, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	})
	return connection, err
}

// startWorld makes the network of the outside world, with its DNS. It routes packets, and refuses connections to Services: there are no pods. It does so
// by a reset, as Linux holds back ICMP messages that come often.
func (b *Bench) startWorld() (err error) {
	if err := sweep(); err != nil {
		return err
	}
	if b.world, err = b.networks.add("world"); err != nil {
		return err
	}
	if err := run("ip", "-n", b.world.name, "route", "add", "unreachable", "default"); err != nil {
		return err
	}
	if err := run("ip", "-n", b.world.name, "route", "add", "local", serviceRange, "dev", "lo"); err != nil {
		return err
	}
	if err := run("ip", "-n", b.world.name, "address", "add", nameServer, "dev", "lo"); err != nil {
		return err
	}
	return b.world.inside(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return err
		}
		b.DNS, err = startDNS(nameServer + ":53")
		return err
	})
}

// address gives the outside world one more address.
func (b *Bench) address() (string, error) {
	b.mu.Lock()
	b.hops++
	address := fmt.Sprintf("10.84.%d.%d", 1+b.hops/250, 1+b.hops%250)
	b.mu.Unlock()
	return address, run("ip", "-n", b.world.name, "address", "add", address, "dev", "lo")
}

// podNetwork makes the network of an app, with Istio's capture: what leaves goes through Envoy, save what Envoy itself (user 1337) sends. Envoy's own
// connections are not tracked: the entry of one that failed would let a later one of the app, with the same ports, pass by the capture.
func (b *Bench) podNetwork() (n *network, address string, err error) {
	b.mu.Lock()
	b.apps++
	index := strconv.Itoa(b.apps)
	b.mu.Unlock()
	if n, err = b.networks.add("app" + index); err != nil {
		return nil, "", err
	}
	gateway, address := "10.83."+index+".1", "10.83."+index+".2"
	for _, command := range []string{
		"ip -n " + b.world.name + " link add app" + index + " type veth peer name eth0 netns " + n.name,
		"ip -n " + b.world.name + " address add " + gateway + "/24 dev app" + index,
		"ip -n " + b.world.name + " link set app" + index + " up",
		"ip -n " + n.name + " address add " + address + "/24 dev eth0",
		"ip -n " + n.name + " link set eth0 up",
		"ip -n " + n.name + " route add default via " + gateway,
		"ip netns exec " + n.name + " iptables -t raw -A OUTPUT -o eth0 -m owner --uid-owner 1337 -j CT --notrack",
		"ip netns exec " + n.name + " iptables -t raw -A PREROUTING -i eth0 -j CT --notrack",
		"ip netns exec " + n.name + " iptables -t nat -A OUTPUT -p tcp ! -d 127.0.0.1 -m owner ! --uid-owner 1337 -j REDIRECT --to-ports 15001",
	} {
		words := strings.Fields(command)
		if err := run(words[0], words[1:]...); err != nil {
			return nil, "", err
		}
	}
	return n, address, nil
}

// sweep removes the network namespaces of benches that were killed.
func sweep() error {
	ours := regexp.MustCompile("^" + prefix + `(\d+)-`)
	entries, err := os.ReadDir(handles)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		found := ours.FindStringSubmatch(entry.Name())
		if found == nil {
			continue
		}
		pid, err := strconv.Atoi(found[1])
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			if err := (&network{name: entry.Name()}).remove(); err != nil {
				return err
			}
		}
	}
	return nil
}

func run(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
