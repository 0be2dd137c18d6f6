{{/* Fails where values were kept from an earlier chart without this one's defaults: each template asks it first. */}}
{{- define "potstill.check" -}}
{{- if not (and .Values.rbac .Values.caBundle .Values.proxy .Values.crds .Values.workloads.serviceAccount .Values.controller.serviceAccount) -}}
{{- fail "values of an earlier chart were kept without the defaults of this one: upgrade with --reset-then-reuse-values in place of --reuse-values" -}}
{{- end -}}
{{- end -}}

{{- define "potstill.name" -}}{{ .Values.nameOverride | default "potstill" }}{{- end -}}

{{/* The start of all names: the release's, as the first chart had it. */}}
{{- define "potstill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if and .Values.nameOverride (not (contains .Values.nameOverride .Release.Name)) -}}
{{- printf "%s-%s" .Release.Name .Values.nameOverride -}}
{{- else -}}
{{- .Release.Name -}}
{{- end -}}
{{- end -}}

{{- define "potstill.labels" -}}
app.kubernetes.io/name: {{ include "potstill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: potstill
{{- end -}}

{{/* The namespaces whose Experiments are served, as a YAML list. */}}
{{- define "potstill.namespaces" -}}
{{- .Values.controller.namespaces | default (list .Release.Namespace) | uniq | toYaml -}}
{{- end -}}

{{/* Those, and the release's own. */}}
{{- define "potstill.allNamespaces" -}}
{{- prepend (include "potstill.namespaces" . | fromYamlArray) .Release.Namespace | uniq | toYaml -}}
{{- end -}}

{{/* The start of the metadata of everything: NAME, in the release's namespace if no other is stated. */}}
{{- define "potstill.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "potstill.labels" .root | nindent 2 }}
{{- end -}}

{{- define "potstill.selector" -}}
app.kubernetes.io/name: {{ include "potstill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "potstill.controller" -}}{{ include "potstill.fullname" . }}-controller{{- end -}}
{{- define "potstill.controller.account" -}}
{{- .Values.controller.serviceAccount.name | default (include "potstill.controller" .) -}}
{{- end -}}
{{- define "potstill.workloads.account" -}}
{{- .Values.workloads.serviceAccount.name | default (printf "%s-workloads" (include "potstill.fullname" .)) -}}
{{- end -}}

{{/* Names of Secrets, whether they are stated as names or as {name: NAME}. */}}
{{- define "potstill.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.imagePullSecrets -}}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "string" . | ternary dict .) "name")) -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* {configMap, key}, or nothing. */}}
{{- define "potstill.caBundle" -}}
{{- with .Values.caBundle -}}
{{- if and .inline .configMap -}}{{- fail "caBundle: state inline or configMap, not both" -}}{{- end -}}
{{- if .inline -}}
{{- dict "configMap" (printf "%s-ca-bundle" (include "potstill.fullname" $)) "key" "ca.crt" | toYaml -}}
{{- else if .configMap -}}
{{- dict "configMap" .configMap "key" .key | toYaml -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A profile as the controller reads it: the values', with the release's store, CAs, proxy and service account filled in. */}}
{{- define "potstill.profile" -}}
{{- $store := dict "url" .root.Values.store.url -}}
{{- range $key := list "endpoint" "region" "secret" "addressingStyle" -}}
{{- with index $.root.Values.store $key -}}{{- $_ := set $store $key . -}}{{- end -}}
{{- end -}}
{{- $defaults := dict "store" $store "serviceAccountName" (include "potstill.workloads.account" .root) -}}
{{- with include "potstill.pullSecrets" .root | fromYamlArray -}}{{- $_ := set $defaults "imagePullSecrets" . -}}{{- end -}}
{{- with include "potstill.caBundle" .root | fromYaml -}}{{- $_ := set $defaults "caBundle" . -}}{{- end -}}
{{- $proxy := dict -}}
{{- range $key := list "https" "http" "noProxy" -}}
{{- with index $.root.Values.proxy $key -}}{{- $_ := set $proxy $key . -}}{{- end -}}
{{- end -}}
{{- with $proxy -}}{{- $_ := set $defaults "proxy" . -}}{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $defaults) (deepCopy .profile)) -}}
{{- end -}}
