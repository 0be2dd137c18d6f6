{{- define "potstill.labels" -}}
app.kubernetes.io/name: potstill
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: potstill
{{- end -}}

{{- define "potstill.selector" -}}
app.kubernetes.io/name: potstill
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "potstill.controller" -}}{{ .Release.Name }}-controller{{- end -}}
{{- define "potstill.workloads" -}}{{ .Release.Name }}-workloads{{- end -}}

{{/* A profile as the controller reads it: the values', with the release's store and service account filled in. */}}
{{- define "potstill.profile" -}}
{{- $store := dict "url" .root.Values.store.url -}}
{{- range $key := list "endpoint" "region" "secret" -}}
{{- with index $.root.Values.store $key -}}{{- $_ := set $store $key . -}}{{- end -}}
{{- end -}}
{{- $defaults := dict "store" $store "serviceAccountName" (include "potstill.workloads" .root) -}}
{{- with .root.Values.imagePullSecrets -}}{{- $_ := set $defaults "imagePullSecrets" . -}}{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $defaults) (deepCopy .profile)) -}}
{{- end -}}
