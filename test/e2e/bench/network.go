//go:build linux

package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The networks of the bench exist only inside network namespaces, so that two benches on one machine do not meet: the world in one, each app in one of
// its own, joined to the world by a pair of virtual interfaces. The kernel removes a namespace with the last process that holds it: nothing is left behind.
const (
	nameServer   = "10.84.0.1"
	serviceRange = "10.96.0.0/16"
)

// network is a network namespace.
type network struct {
	file *os.File
	path string // by which other processes find it
	etc  string // the folder of resolve
}

func newNetwork() (*network, error) {
	n := &network{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	n.path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
	err = n.run("ip link set lo up")
	return n, err
}

func (n *network) remove() { _ = n.file.Close() } // the kernel removes what no process is in

// inside runs a function in the network namespace: the sockets and processes that it makes stay there.
func (n *network) inside(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs a function on a thread of its own, which ends with it: whatever namespace the function enters, no other goroutine finds itself there.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it: Go then ends the thread together with the goroutine
		result <- f()
	}()
	return <-result
}

// run runs a command line without quotes in the network namespace.
func (n *network) run(line string) error {
	return n.inside(func() error {
		words := strings.Fields(line)
		if output, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(output)))
		}
		return nil
	})
}

// resolve makes the files of a folder those of /etc by which programs in the network resolve names: with the bench's name server, as a pod does.
func (n *network) resolve(folder string, search ...string) error {
	n.etc = folder
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	resolver := fmt.Sprintf("nameserver %s\nsearch %s\n", nameServer, strings.Join(search, " "))
	if err := os.WriteFile(filepath.Join(folder, "resolv.conf"), []byte(resolver), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "nsswitch.conf"), []byte("hosts: files dns\n"), 0o644) // not what this machine has beside DNS
}

// asInPod lays the network's own files over those in /etc, for one program alone.
const asInPod = `mount --bind "$1/resolv.conf" /etc/resolv.conf
[ ! -e /etc/nsswitch.conf ] || mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
shift
exec "$@"`

// command returns the words that run a program in the network namespace, and with its name server.
func (n *network) command(program string, args ...string) []string {
	return append([]string{"nsenter", "--net=" + n.path, "unshare", "--mount", "sh", "-ec", asInPod, "sh", n.etc, program}, args...)
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
	if b.world, err = newNetwork(); err != nil {
		return err
	}
	for _, line := range []string{
		"ip route add unreachable default",
		"ip route add local " + serviceRange + " dev lo",
		"ip address add " + nameServer + " dev lo",
	} {
		if err := b.world.run(line); err != nil {
			return err
		}
	}
	return b.world.inside(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return err
		}
		b.DNS, err = startDNS(nameServer+":53", b.serviceAddress)
		return err
	})
}

// address gives the outside world one more address.
func (b *Bench) address() (string, error) {
	b.mu.Lock()
	b.hops++
	address := fmt.Sprintf("10.84.%d.%d", 1+b.hops/250, 1+b.hops%250)
	b.mu.Unlock()
	return address, b.world.run("ip address add " + address + " dev lo")
}

// podNetwork makes the network of a pod.
func (b *Bench) podNetwork(namespace string) (n *network, name, address string, err error) {
	b.mu.Lock()
	b.apps++
	index := strconv.Itoa(b.apps)
	b.mu.Unlock()
	name = "app" + index
	if n, err = newNetwork(); err != nil {
		return nil, "", "", err
	}
	if err := n.resolve(filepath.Join(b.Dir, name+".etc"), namespace+"."+services, services, clusterDomain); err != nil {
		return n, "", "", err
	}
	gateway, address := "10.83."+index+".1", "10.83."+index+".2"
	for _, line := range []string{
		"ip link add " + name + " type veth peer name eth0 netns " + n.path,
		"ip address add " + gateway + "/24 dev " + name,
		"ip link set " + name + " up",
	} {
		if err := b.world.run(line); err != nil {
			return n, "", "", err
		}
	}
	for _, line := range []string{
		"ip address add " + address + "/24 dev eth0",
		"ip link set eth0 up",
		"ip route add default via " + gateway,
	} {
		if err := n.run(line); err != nil {
			return n, "", "", err
		}
	}
	return n, name, address, nil
}

// capture is Istio's: what leaves goes through Envoy, save what Envoy itself sends, which carries a mark (Istio tells it by Envoy's user instead, but an
// ordinary user who becomes root of a namespace has no second one). Envoy's own connections are not tracked: the entry of one that failed would let a
// later one of the app, with the same ports, pass by the capture.
func (n *network) capture() error {
	for _, line := range []string{
		"iptables -t raw -A OUTPUT -o eth0 -m mark --mark 1337 -j CT --notrack",
		"iptables -t raw -A PREROUTING -i eth0 -j CT --notrack",
		"iptables -t nat -A OUTPUT -p tcp ! -d 127.0.0.1 -m mark ! --mark 1337 -j REDIRECT --to-ports 15001",
	} {
		if err := n.run(line); err != nil {
			return err
		}
	}
	return nil
}
