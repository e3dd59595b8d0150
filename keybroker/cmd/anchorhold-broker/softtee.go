//go:build softtee

package main

import (
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
)

const build = "DEVELOPMENT: accepts a software TEE"

// softwareAppraiser accepts a software TEE. AllowSoftwareTEE does not exist in
// release builds, so the tags release and softtee together do not compile.
func softwareAppraiser(rootPEM []byte) (daemon.Appraiser, error) {
	v, err := appraise.New(appraise.Options{})
	if err != nil {
		return nil, err
	}
	return v, v.AllowSoftwareTEE(rootPEM)
}
