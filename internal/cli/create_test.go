package cli_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/externalroute/externalroute/internal/cli"
)

var routes = schema.GroupResource{Group: "networking.externalroute.io", Resource: "externalroutes"}

// The API server decides, and what it says is what the user reads.
func TestCreateSendsTheRoute(t *testing.T) {
	const path = "/apis/networking.externalroute.io/v1alpha1/namespaces/shop/externalroutes?fieldManager=kubectl-create&fieldValidation=Strict"
	for name, tt := range map[string]struct {
		flags                      []string
		answer                     *apierrors.StatusError
		warning                    string
		wantCall                   string
		wantOut, wantErr, wantLine string
	}{
		"created": {wantCall: path, wantOut: "externalroute.networking.externalroute.io/web created\n"},
		"a server dry run": {
			flags: []string{"--dry-run=server"}, wantCall: strings.Replace(path, "fieldManager", "dryRun=All&fieldManager", 1),
			wantOut: "externalroute.networking.externalroute.io/web created (server dry run)\n",
		},
		"the object as the API server returns it": {flags: []string{"--output=jsonpath={.metadata.uid}"}, wantCall: path, wantOut: "from-server"},
		"a warning of an admission policy": {
			warning: "use a policy", wantCall: path, wantOut: "externalroute.networking.externalroute.io/web created\n", wantLine: "Warning: use a policy\n",
		},
		"no rights": {
			answer: apierrors.NewForbidden(routes, "web", errors.New("no rights")), wantCall: path,
			wantErr: `externalroutes.networking.externalroute.io "web" is forbidden: no rights`,
		},
		"it exists": {
			answer: apierrors.NewAlreadyExists(routes, "web"), wantCall: path,
			wantErr: `externalroutes.networking.externalroute.io "web" already exists`,
		},
		"no such namespace": {
			answer: apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "shop"), wantCall: path, wantErr: `namespaces "shop" not found`,
		},
		"no operator": {
			answer:   apierrors.NewGenericServerResponse(http.StatusNotFound, "POST", routes, "", "", 0, false),
			wantCall: path,
			wantErr:  "the cluster serves no externalroutes.networking.externalroute.io: install ExternalRoute in it (the server could not find the requested resource (post externalroutes.networking.externalroute.io))",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", os.DevNull)
			var call string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				call = r.URL.String()
				answerCreate(t, w, r, tt.answer, tt.warning)
			}))
			defer server.Close()
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			command := cli.New(streams, "")
			command.SilenceErrors = true
			command.SetArgs(append([]string{"create", "web", "--url=https://api.example.com", "--namespace=shop", "--server=" + server.URL}, tt.flags...))
			err := command.Execute()
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.wantErr || (err != nil) != (cli.ExitCode(err) == 1) {
				t.Errorf("the error is %q, and the exit code %d: want %q", got, cli.ExitCode(err), tt.wantErr)
			}
			for _, text := range [][2]string{{tt.wantCall, call}, {tt.wantOut, out.String()}, {tt.wantLine, errOut.String()}} {
				if diff := cmp.Diff(text[0], text[1]); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// answerCreate answers as an API server does.
func answerCreate(t *testing.T, w http.ResponseWriter, r *http.Request, refusal *apierrors.StatusError, warning string) {
	t.Helper()
	if warning != "" {
		w.Header().Set("Warning", `299 - "`+warning+`"`)
	}
	w.Header().Set("Content-Type", "application/json")
	if refusal != nil {
		status := refusal.Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.WriteHeader(int(status.Code))
		if err := json.NewEncoder(w).Encode(status); err != nil {
			t.Error(err)
		}
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Error(err)
	}
	want := map[string]any{
		"apiVersion": "networking.externalroute.io/v1alpha1", "kind": "ExternalRoute", "metadata": map[string]any{"name": "web", "namespace": "shop"},
		"spec": map[string]any{"hosts": []any{"web"}, "destinations": []any{map[string]any{"url": "https://api.example.com"}}},
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}
	sent["metadata"].(map[string]any)["uid"] = "from-server"
	w.WriteHeader(http.StatusCreated)
	if err := json.NewEncoder(w).Encode(sent); err != nil {
		t.Error(err)
	}
}
