# One bucket: encrypted with a key of its own, versioned, closed to the public and to plain HTTP.

resource "aws_kms_key" "lake" {
  description             = "Tessera: source files and lake"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "lake" {
  name          = "alias/${var.bucket}"
  target_key_id = aws_kms_key.lake.key_id
}

resource "aws_s3_bucket" "lake" {
  bucket = var.bucket
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.lake.arn
    }
  }
}

resource "aws_s3_bucket_versioning" "lake" {
  bucket = aws_s3_bucket.lake.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "lake" {
  bucket                  = aws_s3_bucket.lake.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id

  # A killed executor leaves parts of uploads, which nothing lists and everybody pays for.
  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # `tessera vacuum` removes scratch of killed nights; this is for when nobody runs it.
  rule {
    id     = "scratch"
    status = "Enabled"
    filter {
      prefix = "${var.lake_prefix}/_tessera/scratch/"
    }
    expiration {
      days = 7
    }
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # What was vacuumed or erased is gone for good a month later.
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }
}

data "aws_iam_policy_document" "only_encrypted_connections" {
  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.lake.arn, "${aws_s3_bucket.lake.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "lake" {
  bucket = aws_s3_bucket.lake.id
  policy = data.aws_iam_policy_document.only_encrypted_connections.json
}

# Driver and executors: read the sources, write the lake, nothing else. The scheduler has no role: it touches no bucket.

data "aws_iam_policy_document" "night_trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:tessera"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "night" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake.arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${var.raw_prefix}/*", "${var.lake_prefix}/*", var.raw_prefix, var.lake_prefix]
    }
  }
  statement {
    sid       = "ReadSources"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.lake.arn}/${var.raw_prefix}/*"]
  }
  statement {
    sid       = "WriteLake"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.lake.arn}/${var.lake_prefix}/*"]
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.lake.arn]
  }
}

resource "aws_iam_role" "night" {
  name               = "tessera-night"
  assume_role_policy = data.aws_iam_policy_document.night_trust.json
}

resource "aws_iam_role_policy" "night" {
  name   = "lake"
  role   = aws_iam_role.night.id
  policy = data.aws_iam_policy_document.night.json
}

# Analysts: the published tables, without scratch, run records and tables with personal data.

data "aws_iam_policy_document" "analyst_trust" {
  count = length(var.analysts) > 0 ? 1 : 0
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = var.analysts
    }
  }
}

data "aws_iam_policy_document" "analyst" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake.arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${var.lake_prefix}/*", var.lake_prefix]
    }
  }
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.lake.arn}/${var.lake_prefix}/*"]
  }
  statement {
    sid     = "NotPersonal"
    effect  = "Deny"
    actions = ["s3:GetObject"]
    resources = concat(
      ["${aws_s3_bucket.lake.arn}/${var.lake_prefix}/_tessera/*", "${aws_s3_bucket.lake.arn}/${var.raw_prefix}/*"],
      [for table in var.restricted_tables : "${aws_s3_bucket.lake.arn}/${var.lake_prefix}/${table}/*"],
    )
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.lake.arn]
  }
}

resource "aws_iam_role" "analyst" {
  count              = length(var.analysts) > 0 ? 1 : 0
  name               = "tessera-analyst"
  assume_role_policy = data.aws_iam_policy_document.analyst_trust[0].json
}

resource "aws_iam_role_policy" "analyst" {
  count  = length(var.analysts) > 0 ? 1 : 0
  name   = "lake"
  role   = aws_iam_role.analyst[0].id
  policy = data.aws_iam_policy_document.analyst.json
}
