//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Load is a stream of requests from an app that runs beside a story.
type Load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	begin  time.Time

	mu     sync.Mutex
	report Report
}

// Report is what became of a load.
type Report struct {
	Total, Failed int
	Duration      time.Duration
	Failures      map[string]int // by answer
	Served        map[string]int // by the first word of the answer, which is the upstream's host
}

func (r Report) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d failed, %.0f requests/s", r.Failed, r.Total, float64(r.Total)/r.Duration.Seconds())
	for answer, times := range r.Failures {
		fmt.Fprintf(&text, "\n  %d times %s", times, answer)
	}
	return text.String()
}

const (
	loadClients = 4
	loadPause   = 2 * time.Millisecond // of each client: about 2,000 requests/s together
	loadLimit   = 10 * time.Minute
)

// Load sends POST requests to the URLs, from four clients that keep their connections, until Stop or for ten minutes. They are POST requests because
// Go's client repeats a GET by itself when a connection breaks, and would hide the loss.
func (a *App) Load(urls ...string) *Load { return a.load(0, urls) }

// LoadAnew is Load from clients that connect anew after so many requests: what a listener that comes or goes does to connections shows in no other way.
func (a *App) LoadAnew(after int, urls ...string) *Load { return a.load(after, urls) }

func (a *App) load(renew int, urls []string) *Load {
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	l := &Load{cancel: cancel, begin: time.Now(), report: Report{Failures: map[string]int{}, Served: map[string]int{}}}
	for range loadClients {
		l.done.Go(func() {
			sender := a.Client(&tls.Config{RootCAs: a.bench.Authority.Pool(), MinVersion: tls.VersionTLS12})
			defer sender.CloseIdleConnections()
			pace := time.NewTicker(loadPause)
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				if renew > 0 && i%renew == 0 {
					sender.CloseIdleConnections()
				}
				l.send(ctx, sender, urls[i%len(urls)])
				<-pace.C
			}
		})
	}
	return l
}

func (l *Load) send(ctx context.Context, sender *http.Client, url string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(strings.NewReader("payload")))
	if err != nil {
		panic(err) // the story wrote a bad URL
	}
	request.ContentLength = int64(len("payload"))
	response := do(sender, request)
	if ctx.Err() != nil {
		return // it was cut off by the end
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Total++
	if response.Err != nil || response.Status != http.StatusOK {
		l.report.Failed++
		l.report.Failures[fmt.Sprintf("after %.1fs %s", time.Since(l.begin).Seconds(), response)]++
		return
	}
	served, _, _ := strings.Cut(response.Body, " ")
	l.report.Served[served]++
}

// Await waits until so many more requests have been answered, well or not.
func (l *Load) Await(ctx context.Context, requests int) error {
	return l.await(ctx, requests, "more requests", func(r *Report) int { return r.Total })
}

// AwaitServed waits until an upstream has answered so many more requests.
func (l *Load) AwaitServed(ctx context.Context, host string, requests int) error {
	return l.await(ctx, requests, "more answers of "+host, func(r *Report) int { return r.Served[host] })
}

func (l *Load) await(ctx context.Context, more int, what string, count func(*Report) int) error {
	counted := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return count(&l.report)
	}
	end := counted() + more
	return eventually(ctx, what, func() error {
		if now := counted(); now < end {
			return fmt.Errorf("%d are missing", end-now)
		}
		return nil
	})
}

// Stop ends the load.
func (l *Load) Stop() Report {
	l.cancel()
	l.done.Wait()
	l.report.Duration = time.Since(l.begin)
	return l.report
}
