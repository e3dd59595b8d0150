package keybroker

// KeptBytes is for tests.
const KeptBytes = keptBytes
