output "lake_url" {
  description = "For lake.url of the project file."
  value       = "s3://${aws_s3_bucket.lake.bucket}/${var.lake_prefix}"
}

output "night_role_arn" {
  description = "For the annotation of the service account (overlays/production)."
  value       = aws_iam_role.night.arn
}
