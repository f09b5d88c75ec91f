{{/* What the templates share: labels, images, addresses, security contexts. Names are fixed: a cluster has one Framewright. */}}

{{- define "framewright.selector" -}}
app.kubernetes.io/name: framewright
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "framewright.labels" -}}
{{ include "framewright.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: framewright
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* registry/repository@digest or registry/repository:tag. Takes registry, repository, tag, digest. */}}
{{- define "framewright.reference" -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "framewright.image" -}}
{{- $image := .Values.image -}}
{{- include "framewright.reference" (dict "registry" $image.registry "repository" $image.repository "digest" $image.digest "tag" ($image.tag | default .Chart.AppVersion)) }}
{{- end }}

{{- define "framewright.workerImage" -}}
{{- $image := .Values.workerImage -}}
{{- include "framewright.reference" (dict "registry" ($image.registry | default .Values.image.registry) "repository" $image.repository "digest" $image.digest "tag" ($image.tag | default .Values.image.tag | default .Chart.AppVersion)) }}
{{- end }}

{{- define "framewright.workerImageCuda" -}}
{{- $image := .Values.workerImage.cuda -}}
{{- include "framewright.reference" (dict "registry" ($image.registry | default .Values.workerImage.registry | default .Values.image.registry) "repository" $image.repository "digest" $image.digest "tag" ($image.tag | default .Values.workerImage.tag | default .Values.image.tag | default .Chart.AppVersion)) }}
{{- end }}

{{- define "framewright.operatorUrl" -}}
https://framewright-operator.{{ .Release.Namespace }}.svc:9443
{{- end }}

{{- define "framewright.storeUrl" -}}
https://framewright-store.{{ .Release.Namespace }}.svc:8443
{{- end }}

{{/* Pod Security "restricted", with a user that owns nothing on the node. */}}
{{- define "framewright.podSecurityContext" -}}
runAsNonRoot: true
{{- if ne (toString .Values.fixedUser) "false" }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "framewright.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The claim that holds the store's artifacts. */}}
{{- define "framewright.storeClaim" -}}
{{ .Values.store.persistence.existingClaim | default "framewright-store" }}
{{- end }}
