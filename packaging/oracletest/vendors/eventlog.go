//go:build oracle

package main

import (
	"crypto"

	"github.com/google/go-eventlog/extract"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

func judgeEventLog(r oracletest.EventLogRequest) (a oracletest.EventLogAnswer) {
	hash, config := crypto.SHA384, extract.TPMRegisterConfig
	if r.SHA256 {
		hash = crypto.SHA256
	}
	if r.CCEL {
		config = extract.RTMRRegisterConfig
	}
	var list []register.MR
	for n, value := range r.Registers {
		if r.CCEL {
			list = append(list, register.RTMR{Index: n, Digest: value})
		} else {
			list = append(list, register.PCR{Index: n, Digest: value, DigestAlg: hash})
		}
	}
	var events []tcg.Event
	if a.Replay = text(guarded(func() (err error) {
		events, err = tcg.ParseAndReplay(r.Log, list, tcg.ParseOpts{AllowPadding: true})
		return err
	})); a.Replay != "" {
		return a
	}
	a.SecureBootErr = text(guarded(func() error {
		state, err := extract.SecureBootState(events, config, extract.Opts{})
		a.SecureBoot = state.GetEnabled()
		return err
	}))
	a.AppsErr = text(guarded(func() error {
		state, err := extract.EfiState(hash, events, config, extract.Opts{AllowEFIAppBeforeCallingEvent: true})
		for _, app := range state.GetApps() {
			a.Apps = append(a.Apps, app.GetDigest())
		}
		return err
	}))
	return a
}
