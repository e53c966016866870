{{- define "type" -}}
{{- if markdownShouldRenderType . }}
### {{ .Name }}

{{ .Doc }}
{{ with .Validation }}
{{ range $i, $rule := . }}{{ if $i }}, {{ end }}{{ template "rule" $rule }}{{ end }}
{{ end }}
{{- with .References }}
*Appears in:* {{ range $i, $type := $.SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $type }}{{ end }}
{{ end }}
{{- if .Members }}
| field | type | meaning | default | limits |
| --- | --- | --- | --- | --- |
{{- with .GVK }}
| `apiVersion` | string | `{{ .Group }}/{{ .Version }}` | | |
| `kind` | string | `{{ .Kind }}` | | |
{{- end }}
{{- range .Members }}
| `{{ .Name }}` | {{ markdownRenderType .Type }} | {{ if eq .Name "metadata" }}the standard object's metadata{{ else }}{{ markdownRenderFieldDoc .Doc | replace "<br />" " " }}{{ end }} | {{ if ne .Name "status" }}{{ with .Default }}`{{ . }}`{{ end }}{{ end }} | {{ range $i, $rule := without .Validation "Optional: {}" }}{{ if $i }}<br />{{ end }}{{ template "rule" $rule }}{{ end }} |
{{- end }}
{{ end }}
{{- if .EnumValues }}
| value | meaning |
| --- | --- |
{{- range .EnumValues }}
| `{{ .Name }}` | {{ markdownRenderFieldDoc .Doc | replace "<br />" " " }} |
{{- end }}
{{ end }}
{{- end -}}
{{- end -}}

{{- define "rule" -}}
{{- $words := splitn ": " 2 . -}}
{{- if eq . "Required: {}" }}*required*
{{- else if regexMatch "^(Minimum|Maximum)$" $words._0 }}{{ lower $words._0 }} {{ $words._1 | float64 | int64 }}
{{- else if eq $words._0 "Enum" }}one of {{ $words._1 | trimAll "[]" | replace " " ", " }}
{{- else }}{{ regexReplaceAll "([a-z])([A-Z])" $words._0 "${1} ${2}" | lower }} {{ markdownRenderFieldDoc $words._1 }}
{{- end -}}
{{- end -}}
