//go:build race || cgo

package worker

const foreignRuntime = true
