{{/* The template of the pods, for the Deployment and the StatefulSet. */}}
{{- define "aws-iot-jobs-exporter.pod" -}}
{{- $hasWebConfig := include "aws-iot-jobs-exporter.hasWebConfig" . -}}
{{- $isInline := not (or .Values.existingConfigMap .Values.existingSecret) -}}
metadata:
  labels:
    {{- $labels := merge (include "aws-iot-jobs-exporter.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels }}
    {{- toYaml $labels | nindent 4 }}
  {{- $annotations := deepCopy .Values.podAnnotations }}
  {{- if $isInline }}
  {{- $_ := set $annotations "checksum/config" (toYaml .Values.config | sha256sum) }}
  {{- end }}
  {{- if .Values.web.config }}
  {{- $_ := set $annotations "checksum/web-config" (toYaml .Values.web.config | sha256sum) }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "aws-iot-jobs-exporter.serviceAccountName" . }}
  # The exporter never asks Kubernetes for anything. The token for AWS is another one, which EKS mounts itself.
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.dnsPolicy }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with .Values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: exporter
      {{- $version := printf ":%s" (.Values.image.tag | default .Chart.AppVersion) }}
      {{- with .Values.image.digest }}
      {{- $version = printf "@%s" . }}
      {{- end }}
      image: {{ printf "%s%s" .Values.image.repository $version | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - --config.file=/etc/aws-iot-jobs-exporter/exporter.yml
        # The flag wins over the configuration, so that the ports of the pod and the probes are right whatever that says.
        - --web.listen-address=:{{ .Values.containerPort }}
        {{- if $hasWebConfig }}
        - --web.config.file=/etc/aws-iot-jobs-exporter-web/web.yml
        # The kubelet has neither a client certificate nor the authority of the server's.
        - --web.probe-address=:{{ .Values.web.probePort }}
        {{- end }}
        {{- with .Values.logFormat }}
        - --log.format={{ . }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or (gt (int .Values.shards) 1) .Values.env }}
      env:
        {{- if gt (int .Values.shards) 1 }}
        # The pod's ordinal, from 0.
        - name: IOT_JOBS_EXPORTER_SHARD__INDEX
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
        - name: IOT_JOBS_EXPORTER_SHARD__TOTAL
          value: {{ .Values.shards | quote }}
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with .Values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.containerPort }}
        {{- if $hasWebConfig }}
        - name: probe
          containerPort: {{ .Values.web.probePort }}
        {{- end }}
      {{- $port := ternary "probe" "http" (not (empty $hasWebConfig)) }}
      livenessProbe:
        httpGet:
          path: /-/healthy
          port: {{ $port }}
        {{- with .Values.livenessProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      readinessProbe:
        httpGet:
          path: /-/ready
          port: {{ $port }}
        {{- with .Values.readinessProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: configuration
          mountPath: /etc/aws-iot-jobs-exporter
          readOnly: true
        {{- if $hasWebConfig }}
        - name: web-configuration
          mountPath: /etc/aws-iot-jobs-exporter-web
          readOnly: true
        {{- end }}
        {{- if .Values.web.tlsSecret }}
        - name: tls
          mountPath: /etc/aws-iot-jobs-exporter-tls
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: configuration
      {{- if .Values.existingSecret }}
      secret:
        secretName: {{ .Values.existingSecret }}
        # 0440: readable by the group of the pod.
        defaultMode: 288
      {{- else }}
      configMap:
        name: {{ .Values.existingConfigMap | default (include "aws-iot-jobs-exporter.fullname" .) }}
      {{- end }}
    {{- if $hasWebConfig }}
    - name: web-configuration
      secret:
        secretName: {{ .Values.web.existingSecret | default (printf "%s-web" (include "aws-iot-jobs-exporter.fullname" .)) }}
        defaultMode: 288
    {{- end }}
    {{- with .Values.web.tlsSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 288
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
