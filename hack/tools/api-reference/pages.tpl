{{- define "gvList" -}}
# API reference

Generated from the comments in `api/`: `make generate`. A field that is not marked *required* is optional.
{{ range . }}
## {{ .GroupVersionString }}
{{ $gv := . }}
{{- range .SortedKinds }}{{ template "type" ($gv.TypeForKind .) }}{{ end }}
{{- range .SortedTypes }}{{ if not .GVK }}{{ template "type" . }}{{ end }}{{ end }}
{{- end -}}
{{- end -}}
