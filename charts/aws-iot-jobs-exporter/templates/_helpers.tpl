{{- define "aws-iot-jobs-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Without the chart's name twice, where the release has it. Names of pods add up to 11 characters. */}}
{{- define "aws-iot-jobs-exporter.fullname" -}}
{{- $name := include "aws-iot-jobs-exporter.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "aws-iot-jobs-exporter.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "aws-iot-jobs-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aws-iot-jobs-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aws-iot-jobs-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "aws-iot-jobs-exporter.selectorLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata of a resource. Arguments: root, and optionally name, namespace, labels, annotations. */}}
{{- define "aws-iot-jobs-exporter.metadata" -}}
{{- $labels := include "aws-iot-jobs-exporter.labels" .root | fromYaml -}}
name: {{ .name | default (include "aws-iot-jobs-exporter.fullname" .root) }}
namespace: {{ .namespace | default (include "aws-iot-jobs-exporter.namespace" .root) }}
labels:
  {{- toYaml (merge (deepCopy (.labels | default dict)) $labels) | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "aws-iot-jobs-exporter.serviceAccountName" -}}
{{- $created := include "aws-iot-jobs-exporter.fullname" . }}
{{- .Values.serviceAccount.name | default (ternary $created "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Whether the exporter has a web configuration: "true", or empty. */}}
{{- define "aws-iot-jobs-exporter.hasWebConfig" -}}
{{- if or .Values.web.config .Values.web.existingSecret }}true{{ end }}
{{- end }}

{{/* Values that contradict each other. The schema finds what is wrong with a single one. */}}
{{- define "aws-iot-jobs-exporter.validate" -}}
{{- if and .Values.existingConfigMap .Values.existingSecret }}
{{- fail "existingConfigMap and existingSecret are both set, and the exporter reads one configuration. Set one of them." }}
{{- end }}
{{- if and .Values.web.config .Values.web.existingSecret }}
{{- fail "web.config and web.existingSecret are both set, and the exporter reads one web configuration. Set one of them." }}
{{- end }}
{{- if .Values.config.shard }}
{{- fail "config.shard is set, and the chart gives each pod its shard. Set shards." }}
{{- end }}
{{- $web := .Values.config.web | default dict }}
{{- range $key, $instead := dict "listen_addresses" "containerPort" "config_file" "web.config or web.existingSecret" "probe_address" "web.probePort" }}
{{- if get $web $key }}
{{- fail (printf "config.web.%s is set, and the ports and probes of the pod would not fit to it. Set %s." $key $instead) }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (gt (int .Values.shards) 1) }}
{{- fail "ingress.enabled needs shards: 1, because each pod shows other targets and a request can reach any of them." }}
{{- end }}
{{- if and (include "aws-iot-jobs-exporter.hasWebConfig" .) (eq (int .Values.containerPort) (int .Values.web.probePort)) }}
{{- fail "containerPort and web.probePort are the same port. Set another one for the probes." }}
{{- end }}
{{- end }}
