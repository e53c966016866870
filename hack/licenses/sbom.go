package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"slices"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM lists what the Go linker noted in the binary. It holds no time and no serial number, so that the same binary gives the same file.
func writeSBOM(modules []*module, binary, file string) (err error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	main := component(info.Main.Path, info.Main.Version, []string{"Apache-2.0"})
	main.Type = cyclonedx.ComponentTypeApplication
	std := slices.IndexFunc(modules, func(m *module) bool { return m.path == standardLibrary })
	components := []cyclonedx.Component{component(standardLibrary, info.GoVersion, modules[std].ids())}
	for _, dependency := range info.Deps {
		at := slices.IndexFunc(modules, func(m *module) bool { return m.path == dependency.Path && m.version == dependency.Version })
		if at < 0 {
			return fmt.Errorf("%s holds %s %s, which go list does not know", binary, dependency.Path, dependency.Version)
		}
		components = append(components, component(dependency.Path, dependency.Version, modules[at].ids()))
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &main}
	bom.Components = &components
	output, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closing := output.Close(); err == nil {
			err = closing
		}
	}()
	return cyclonedx.NewBOMEncoder(output, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
}

func component(path, version string, ids []string) cyclonedx.Component {
	url := "pkg:golang/" + path + "@" + version
	component := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeLibrary, BOMRef: url, PackageURL: url, Name: path, Version: version, Licenses: &cyclonedx.Licenses{},
	}
	for _, id := range ids {
		*component.Licenses = append(*component.Licenses, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id}})
	}
	return component
}
