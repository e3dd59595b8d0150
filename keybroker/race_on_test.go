//go:build race

package keybroker_test

const raceEnabled = true
