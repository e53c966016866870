// Package argocd says what Argo CD would say of an ExternalRoute: it runs the shipped health check in Argo CD's own interpreter, with no more of Lua
// than Argo CD gives to a check in argocd-cm.
package argocd

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"

	customizations "github.com/externalroute/externalroute/config/argocd"
)

// folder is where the check, its cases and its manifests are.
const folder = "networking.externalroute.io/ExternalRoute/"

// The answers of Argo CD that a check may give.
const (
	Healthy     = "Healthy"
	Progressing = "Progressing"
	Suspended   = "Suspended"
	Degraded    = "Degraded"
)

// Health is Argo CD's word for the object's health, and the message beside it.
func Health(object *unstructured.Unstructured) (status, message string, err error) {
	if object.GetDeletionTimestamp() != nil { // Argo CD does not ask the check then
		return Progressing, "Pending deletion", nil
	}
	script, err := customizations.Customizations.ReadFile(folder + "health.lua")
	if err != nil {
		return "", "", err
	}
	answer, err := run(string(script), object)
	if err != nil {
		return "", "", fmt.Errorf("run health.lua on %s: %w", object.GetName(), err)
	}
	if !slices.Contains([]string{Healthy, Progressing, Suspended, Degraded}, answer.Status) {
		return "", "", fmt.Errorf("run health.lua on %s: %q is no health", object.GetName(), answer.Status)
	}
	return answer.Status, answer.Message, nil
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func run(script string, object *unstructured.Unstructured) (*health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	// Argo CD opens these, package and a part of os, which a check has no use for. The standard libraries proper stay closed unless a user opens them.
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(object.Object)
	if err != nil {
		return nil, err
	}
	value, err := luajson.Decode(state, raw)
	if err != nil {
		return nil, err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	if state.GetTop() != 1 || state.Get(1).Type() != lua.LTTable {
		return nil, errors.New("the check must return one table")
	}
	raw, err = luajson.Encode(state.Get(1))
	if err != nil {
		return nil, err
	}
	answer := &health{}
	return answer, json.Unmarshal(raw, answer)
}
