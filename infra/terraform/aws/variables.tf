variable "bucket" {
  description = "Name of the bucket for raw files and the lake."
  type        = string
}

variable "raw_prefix" {
  description = "Folder of the source files in the bucket, without slashes around it."
  type        = string
  default     = "raw"
}

variable "lake_prefix" {
  description = "Folder of the lake in the bucket, without slashes around it."
  type        = string
  default     = "lake"
}

variable "oidc_provider_arn" {
  description = "The cluster's OpenID Connect provider (EKS: IAM roles for service accounts)."
  type        = string
}

variable "oidc_issuer" {
  description = "Its issuer, without https://."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of infra/kubernetes."
  type        = string
  default     = "tessera"
}

variable "analysts" {
  description = "Principals (ARNs) that may read the published tables without personal data."
  type        = list(string)
  default     = []
}

variable "restricted_tables" {
  description = "Tables with personal data: `tessera tables` marks them."
  type        = list(string)
  default     = ["account_ids", "clean_customers", "clean_survey_responses", "golden_ledger", "golden_records", "identity", "identity_model", "identity_pairs", "quarantine"]
}
