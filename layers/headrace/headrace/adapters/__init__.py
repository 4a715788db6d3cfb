"""Fulfilments of the ports: DynamoDB, S3, Kinesis, memory, the clock."""
