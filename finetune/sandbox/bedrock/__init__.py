"""A stand-in for Amazon Bedrock's customization of models, and for the part of S3 that it needs."""
