//go:build race && !release

package keybroker_test

const raceEnabled = true
