//go:build !softtee

package main

import "github.com/anchorhold/anchorhold/keybroker/daemon"

const build = "hardware evidence only"

// softwareAppraiser is absent: this build cannot accept a software TEE.
var softwareAppraiser func(rootPEM []byte) (daemon.Appraiser, error)
