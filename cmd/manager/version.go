package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is stamped in by the linker where a release is built. Otherwise the module's version tells, which is that of a `go install`.
var version string

// versionLine says which source this program was built of.
func versionLine() string {
	v, revision := version, "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = setting.Value
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return fmt.Sprintf("externalroute %s (revision %s, %s, %s/%s)", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
