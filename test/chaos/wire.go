//go:build linux

package main

import (
	"context"
	"encoding/json"
	"strings"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"k8s.io/client-go/rest"
)

// wire is what lies between the operator and the API server: a TCP proxy, which TLS passes through. Of its connections some may be slow, cut or dead.
type wire struct {
	proxy  *toxiproxy.Proxy
	config *rest.Config // of an operator at its near end
}

func newWire(target *rest.Config) (*wire, error) {
	to, _, err := rest.DefaultServerUrlFor(target)
	if err != nil {
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &wire{proxy: toxiproxy.NewProxy(server, "wire", "127.0.0.1:0", to.Host), config: rest.CopyConfig(target)}
	if err := w.proxy.Start(); err != nil {
		return nil, err
	}
	w.config.Host, w.config.ServerName = "https://"+w.proxy.Listen, to.Hostname()
	return w, nil
}

func (w *wire) stop() { w.proxy.Stop() }

// cut closes all connections.
func (w *wire) cut() error {
	w.proxy.Stop()
	return w.proxy.Start()
}

// toxic is a disturbance of connections, in toxiproxy's words.
type toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Toxicity   float64          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`
}

// disturb does things to connections, those that stand and new ones, until the function that it returns is called.
func (w *wire) disturb(toxics ...toxic) (restore func(), err error) {
	restore = func() { w.proxy.Toxics.ResetToxics(context.Background()) }
	for _, t := range toxics {
		raw, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
			restore()
			return nil, err
		}
	}
	return restore, nil
}
