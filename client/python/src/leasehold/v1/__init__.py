"""The wire contract as protoc generates it, for those who make calls of their own."""
