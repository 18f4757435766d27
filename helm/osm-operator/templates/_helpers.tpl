{{/* Namespace of the control plane. */}}
{{- define "osm.namespace" -}}
{{ .Values.osm.osmNamespace | default .Release.Namespace }}
{{- end -}}

{{/* Name of everything that belongs to no namespace: with the mesh's name, so that two meshes do not share it and helm refuses a
second release of one mesh. */}}
{{- define "osm.clusterName" -}}
osm-operator-{{ .Values.osm.meshName }}
{{- end -}}

{{- define "osm.mutatingWebhookName" -}}
{{ .Values.osm.webhookConfigNamePrefix }}-{{ .Values.osm.meshName }}
{{- end -}}

{{- define "osm.validatingWebhookName" -}}
{{ .Values.osm.validatorWebhook.webhookConfigurationName | default (printf "osm-validator-mesh-%s" .Values.osm.meshName) }}
{{- end -}}

{{/* What finds the pods of the control plane; cannot be changed once it is installed. */}}
{{- define "osm.selectorLabels" -}}
app: osm-controller
app.kubernetes.io/name: openservicemesh.io
app.kubernetes.io/instance: {{ .Values.osm.meshName }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "osm.labels" -}}
app.kubernetes.io/name: openservicemesh.io
app.kubernetes.io/instance: {{ .Values.osm.meshName }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: control-plane
app.kubernetes.io/part-of: openservicemesh.io
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "osm.image" -}}
{{- $image := .Values.osm.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{ $image.name.osmOperator }}:{{ $image.tag | default .Chart.AppVersion }}
{{- with $image.digest.osmOperator }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Whether the first MeshRootCertificate comes from these values; empty is no. */}}
{{- define "osm.makesRootCertificate" -}}
{{- if or (ne .Values.osm.certificateProvider.kind "tresor") .Values.osm.featureFlags.enableMeshRootCertificate -}}
true
{{- end -}}
{{- end -}}

{{/* Secret with Vault's token, and the key in it. */}}
{{- define "osm.vaultSecretName" -}}
{{ .Values.osm.vault.secret.name | default "osm-vault-token" }}
{{- end -}}
{{- define "osm.vaultSecretKey" -}}
{{- if .Values.osm.vault.secret.name -}}
{{ .Values.osm.vault.secret.key }}
{{- else -}}
token
{{- end -}}
{{- end -}}

{{/* Stops what cannot work, saying what to do instead. */}}
{{- define "osm.check" -}}
{{- $osm := .Values.osm -}}
{{- if eq $osm.certificateProvider.kind "vault" -}}
{{- if not $osm.vault.host -}}
{{- fail "osm.certificateProvider.kind is vault and osm.vault.host is empty: name the host of Vault" -}}
{{- end -}}
{{- if and (not $osm.vault.token) (not $osm.vault.secret.name) -}}
{{- fail "osm.certificateProvider.kind is vault and there is no token: name a Secret in osm.vault.secret, or set osm.vault.token" -}}
{{- end -}}
{{- if and $osm.vault.secret.name (not $osm.vault.secret.key) -}}
{{- fail "osm.vault.secret.name is set and osm.vault.secret.key is empty: name the key of the token in that Secret" -}}
{{- end -}}
{{- end -}}
{{- $gateway := $osm.ingressGateway -}}
{{- if and $gateway.subjectAltNames (not $gateway.secret.name) -}}
{{- fail "osm.ingressGateway.subjectAltNames is set and osm.ingressGateway.secret.name is empty: name the Secret of the certificate" -}}
{{- end -}}
{{- if ne (empty $gateway.secret.name) (empty $gateway.secret.namespace) -}}
{{- fail "osm.ingressGateway.secret needs both name and namespace, or neither" -}}
{{- end -}}
{{- if gt (int $osm.osmController.autoScale.minReplicas) (int $osm.osmController.autoScale.maxReplicas) -}}
{{- fail "osm.osmController.autoScale.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}

{{/* spec of the MeshConfig to create. */}}
{{- define "osm.presetMeshConfig" -}}
{{- $osm := .Values.osm -}}
{{- $tracing := dict "enable" $osm.tracing.enable -}}
{{- if $osm.tracing.enable -}}
{{- $tracing = dict "enable" true "port" $osm.tracing.port "endpoint" $osm.tracing.endpoint -}}
{{- with $osm.tracing.address -}}
{{- $_ := set $tracing "address" . -}}
{{- end -}}
{{- end -}}
{{- $flags := pick $osm.featureFlags "enableWASMStats" "enableEgressPolicy" "enableIngressBackendPolicy" "enableEnvoyActiveHealthChecks" "enableRetryPolicy" -}}
{{- $_ := set $flags "enableMeshRootCertificate" (ne (include "osm.makesRootCertificate" .) "") -}}
{{- $spec := dict
  "sidecar" (dict
    "enablePrivilegedInitContainer" $osm.enablePrivilegedInitContainer
    "logLevel" $osm.envoyLogLevel
    "maxDataPlaneConnections" $osm.maxDataPlaneConnections
    "configResyncInterval" $osm.configResyncInterval
    "localProxyMode" $osm.localProxyMode)
  "traffic" (dict
    "enableEgress" $osm.enableEgress
    "enablePermissiveTrafficPolicyMode" $osm.enablePermissiveTrafficPolicy
    "outboundIPRangeExclusionList" $osm.outboundIPRangeExclusionList
    "outboundIPRangeInclusionList" $osm.outboundIPRangeInclusionList
    "outboundPortExclusionList" $osm.outboundPortExclusionList
    "inboundPortExclusionList" $osm.inboundPortExclusionList
    "networkInterfaceExclusionList" $osm.networkInterfaceExclusionList)
  "observability" (dict
    "osmLogLevel" $osm.controllerLogLevel
    "enableDebugServer" $osm.enableDebugServer
    "tracing" $tracing)
  "featureFlags" $flags -}}
{{- $provider := $osm.certificateProvider -}}
{{- $gateway := $osm.ingressGateway -}}
{{- if or $provider.certKeyBitSize (ne $provider.serviceCertValidityDuration "24h") $gateway.subjectAltNames -}}
{{- $_ := set $spec "certificate" (dict
  "serviceCertValidityDuration" $provider.serviceCertValidityDuration
  "certKeyBitSize" (int ($provider.certKeyBitSize | default 2048))) -}}
{{- end -}}
{{- if $gateway.subjectAltNames -}}
{{- $_ := set $spec.certificate "ingressGateway" (pick $gateway "subjectAltNames" "validityDuration" "secret") -}}
{{- end -}}
{{ toPrettyJson $spec }}
{{- end -}}

{{/* Namespaces that no webhook is asked about: those that the cluster needs to run, and those that say so. */}}
{{- define "osm.neverNamespaces" -}}
- key: openservicemesh.io/ignore
  operator: DoesNotExist
- key: control-plane
  operator: DoesNotExist
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
    - kube-system
    - kube-public
    - kube-node-lease
    - {{ include "osm.namespace" . }}
{{- end -}}

{{/* Secrets that the control plane reads, and makes where there are none, as a list in JSON. */}}
{{- define "osm.ownSecretNames" -}}
{{ prepend .Values.osm.rootSecretNames .Values.osm.caBundleSecretName | uniq | toJson }}
{{- end -}}

{{/* Secrets that the control plane only reads, as a list in JSON. */}}
{{- define "osm.readSecretNames" -}}
{{- $names := list -}}
{{- if eq .Values.osm.certificateProvider.kind "vault" -}}
{{- $names = list (include "osm.vaultSecretName" .) -}}
{{- end -}}
{{ toJson $names }}
{{- end -}}

{{/* The Secret of the ingress gateway, as a list in JSON. */}}
{{- define "osm.gatewaySecretNames" -}}
{{ list .Values.osm.ingressGateway.secret.name | toJson }}
{{- end -}}

{{/* The webhook configuration for pods, as a list in JSON. */}}
{{- define "osm.mutatingWebhookNames" -}}
{{ list (include "osm.mutatingWebhookName" .) | toJson }}
{{- end -}}

{{/* The webhook configuration for objects, as a list in JSON. */}}
{{- define "osm.validatingWebhookNames" -}}
{{ list (include "osm.validatingWebhookName" .) | toJson }}
{{- end -}}
