//go:build !linux

// Command demo needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "demo-mesh: it needs Linux, since a sidecar takes over an app's traffic with iptables. make demo runs here too, without traffic.")
	os.Exit(1)
}
