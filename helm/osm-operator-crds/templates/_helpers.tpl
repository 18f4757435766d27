{{/* Labels of every definition. */}}
{{- define "osm-crds.labels" -}}
app.kubernetes.io/name: openservicemesh.io
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: crds
app.kubernetes.io/part-of: openservicemesh.io
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The part of a definition's metadata below its name. */}}
{{- define "osm-crds.metadata" -}}
labels:
  {{- include "osm-crds.labels" . | nindent 2 }}
{{- if or .Values.keep .Values.annotations }}
annotations:
  {{- if .Values.keep }}
  helm.sh/resource-policy: keep
  {{- end }}
  {{- with omit .Values.annotations "helm.sh/resource-policy" }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}
