{{/* Start of the names of all objects; short enough for every suffix. */}}
{{- define "flowworker.base" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of the operator's objects, and of its Lease. */}}
{{- define "flowworker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-operator" (include "flowworker.base" .) -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, by which the operator's pods are selected. */}}
{{- define "flowworker.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of everything but pods. */}}
{{- define "flowworker.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: flowworker
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "flowworker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "flowworker.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Reference of an image: called with a list of the image's values and the default tag. */}}
{{- define "flowworker.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The namespaces that are looked after, for a selector of the Prometheus operator. */}}
{{- define "flowworker.namespaceSelector" -}}
{{- if .Values.namespaces -}}
matchNames: {{ toJson .Values.namespaces }}
{{- else -}}
any: true
{{- end -}}
{{- end -}}

{{/* Ports of a NetworkPolicy: called with a list of numbers. */}}
{{- define "flowworker.ports" -}}
{{- range . }}
- port: {{ . }}
  protocol: TCP
{{- end }}
{{- end -}}

{{/* Destinations of a NetworkPolicy: called with a list of CIDRs; nothing means anywhere. */}}
{{- define "flowworker.destinations" -}}
{{- with . }}
to:
  {{- range . }}
  - ipBlock:
      cidr: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
