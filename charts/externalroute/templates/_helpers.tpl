{{- define "externalroute.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The beginning of every name, short enough for what follows it. */}}
{{- define "externalroute.fullname" -}}
{{- $name := include "externalroute.name" . }}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $both | trunc 45 | trimSuffix "-" }}
{{- end }}

{{- define "externalroute.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "externalroute.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "externalroute.fullname" .) "default") }}
{{- end }}

{{- define "externalroute.selector" -}}
app.kubernetes.io/name: {{ include "externalroute.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "externalroute.labels" -}}
{{ include "externalroute.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{/* The metadata of an object, from a dict with root, name, and where wanted namespace, labels and annotations. */}}
{{- define "externalroute.metadata" -}}
{{- $metadata := dict "name" .name }}
{{- $_ := set $metadata "labels" (mergeOverwrite (dict) (include "externalroute.labels" .root | fromYaml) .root.Values.commonLabels (.labels | default dict)) }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (.annotations | default dict) }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- with .namespace }}
{{- $_ := set $metadata "namespace" . }}
{{- end }}
{{- toYaml $metadata }}
{{- end }}

{{- define "externalroute.image" -}}
{{- $image := .Values.image }}
{{- $name := printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}
{{- with $image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end }}
{{- with $image.digest }}{{ $name = printf "%s@%s" $name . }}{{ end }}
{{- $name }}
{{- end }}

{{/* The rules of a role of config/rbac, of which the chart has copies. From a dict with root and file. */}}
{{- define "externalroute.rules" -}}
{{- $rules := list }}
{{- range (.root.Files.Get (printf "files/rbac/%s" .file) | fromYaml).rules }}
{{- $rule := . }}
{{- if and $.namespaced .resources }}{{ $rule = set . "resources" (without .resources "namespaces" "externalroutepolicies" "externalroutepolicies/status") }}{{ end }}
{{- if or $rule.resources $rule.nonResourceURLs }}{{ $rules = append $rules $rule }}{{ end }}
{{- end }}
{{- toYaml $rules }}
{{- end }}

{{- define "externalroute.lockdown" -}}
{{- printf "%s-lockdown" (include "externalroute.fullname" .) }}
{{- end }}

{{- define "externalroute.subject" -}}
- kind: ServiceAccount
  name: {{ include "externalroute.serviceAccount" . }}
  namespace: {{ include "externalroute.namespace" . }}
{{- end }}

{{/* The secrets for pulling images: those of a chart around this one, and our own. */}}
{{- define "externalroute.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.imagePullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $secrets | uniq }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* The environment. The downward API writes a memory limit in bytes, as GOMEMLIMIT takes it, in whatever unit it was set and whoever changed it since.
     Without a limit it would write the memory of the node. */}}
{{- define "externalroute.env" -}}
{{- $env := list }}
{{- $own := false }}
{{- range .Values.extraEnv }}{{ if eq .name "GOMEMLIMIT" }}{{ $own = true }}{{ end }}{{ end }}
{{- if and (dig "limits" "memory" "" .Values.resources) (not $own) }}
{{- $reference := dict "containerName" "manager" "resource" "limits.memory" "divisor" "1" }}
{{- $env = append $env (dict "name" "GOMEMLIMIT" "valueFrom" (dict "resourceFieldRef" $reference)) }}
{{- end }}
{{- with concat $env .Values.extraEnv }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Names the other release that owns a CRD of the cluster. Empty if there is none, and when Helm asks no cluster. A CRD without an owner is left to
     Helm, which refuses to take it: a release that once had it must not drop it, since Helm would then delete it, and all routes with it. From a dict with
     root and name. */}}
{{- define "externalroute.foreignOwner" -}}
{{- with lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $name := get $annotations "meta.helm.sh/release-name" }}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" }}
{{- if and $name (or (ne $name $.root.Release.Name) (ne $namespace $.root.Release.Namespace)) }}release {{ $name }} in namespace {{ $namespace }}
{{- end }}
{{- end }}
{{- end }}

{{/* Says "true" where objects of the Prometheus operator are to be rendered. From a dict with root and kind. */}}
{{- define "externalroute.monitoring" -}}
{{- $mode := .root.Values.metrics.serviceMonitor.renderMode }}
{{- if or (eq $mode "alwaysRender") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind)) }}
{{- true }}
{{- else if eq $mode "failIfMissing" }}
{{- fail (printf "metrics.serviceMonitor.renderMode is failIfMissing, and the cluster has no kind %s: install the Prometheus operator first" .kind) }}
{{- end }}
{{- end }}
