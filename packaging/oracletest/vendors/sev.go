//go:build oracle

package main

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

func judgeSNP(r oracletest.SNPRequest) (a oracletest.SNPAnswer) {
	report, err := abi.ReportToProto(r.Report)
	if a.Parse = text(err); err != nil {
		a.Signature, a.Verify, a.Validate = a.Parse, a.Parse, a.Parse
		return a
	}
	chipKey(r, &a)
	// Both halves fill in what they were given.
	attestation := func() *spb.Attestation {
		return &spb.Attestation{Report: report, CertificateChain: &spb.CertificateChain{VcekCert: r.VCEK, VlekCert: r.VLEK, AskCert: r.ASK, ArkCert: r.ARK}}
	}
	options, err := snpOptions(r)
	if err != nil {
		a.Verify = err.Error()
		return a
	}
	a.Verify = text(guarded(func() error { return verify.SnpAttestation(attestation(), options) }))
	vmpl := int(report.Vmpl)
	a.Validate = text(guarded(func() error {
		return validate.SnpAttestation(attestation(), &validate.Options{ReportData: report.ReportData, VMPL: &vmpl,
			GuestPolicy: abi.SnpPolicy{Debug: true, SMT: true, MigrateMA: true}, PermitProvisionalFirmware: true})
	}))
	a.Cost = measured(r.Repeat, func() { verify.SnpAttestation(attestation(), options) })
	return a
}

// chipKey reads the VCEK or VLEK and verifies the report's signature with it alone.
func chipKey(r oracletest.SNPRequest, a *oracletest.SNPAnswer) {
	der, extensions := r.VCEK, kds.VcekCertificateExtensions
	if len(der) == 0 {
		der, extensions = r.VLEK, kds.VlekCertificateExtensions
	}
	key, err := x509.ParseCertificate(der)
	if err != nil {
		a.Signature = err.Error()
		return
	}
	a.Signature = text(verify.SnpReportSignature(r.Report, key))
	if e, err := extensions(key); err == nil {
		a.TCB, a.HWID = uint64(e.TCBVersion), e.HWID[:]
	}
}

// document answers every question with the same bytes.
type document []byte

func (d document) Get(string) ([]byte, error) { return d, nil }

func snpOptions(r oracletest.SNPRequest) (*verify.Options, error) {
	o := &verify.Options{DisableCertFetching: true}
	if r.Unix != 0 {
		o.Now = time.Unix(r.Unix, 0)
	}
	if r.RootCRL != nil {
		o.CheckRevocations, o.Getter = true, document(r.RootCRL)
	}
	if !r.Roots {
		return o, nil
	}
	root := trust.AMDRootCertsProduct(r.Product)
	root.ProductCerts = &trust.ProductCerts{}
	for der, to := range map[*[]byte]**x509.Certificate{&r.ASK: &root.ProductCerts.Ask, &r.ASVK: &root.ProductCerts.Asvk, &r.ARK: &root.ProductCerts.Ark} {
		if len(*der) == 0 {
			continue
		}
		cert, err := x509.ParseCertificate(*der)
		if err != nil {
			return nil, err
		}
		*to = cert
	}
	if r.CachedCRL {
		list, err := x509.ParseRevocationList(r.RootCRL)
		if err != nil {
			return nil, err
		}
		root.CRL, o.Getter = list, refusing{}
	}
	o.TrustedRoots = map[string][]*trust.AMDRootCerts{r.Product: {root}}
	return o, nil
}

// refusing is a network that is down.
type refusing struct{}

func (refusing) Get(string) ([]byte, error) { return nil, errors.New("there is no network") }

func snpFields(raw []byte) oracletest.SNPFields {
	r, err := abi.ReportToProto(raw)
	if err != nil {
		return oracletest.SNPFields{Err: err.Error()}
	}
	return oracletest.SNPFields{GuestSVN: r.GuestSvn, VMPL: r.Vmpl, Policy: r.Policy, Current: r.CurrentTcb, PlatformInfo: r.PlatformInfo,
		Reported: r.ReportedTcb, Committed: r.CommittedTcb, Launch: r.LaunchTcb, FamilyID: r.FamilyId, ImageID: r.ImageId, ReportData: r.ReportData,
		Measurement: r.Measurement, HostData: r.HostData, IDKeyDigest: r.IdKeyDigest, AuthorKeyDigest: r.AuthorKeyDigest, ReportID: r.ReportId,
		ReportIDMigrationAgent: r.ReportIdMa, ChipID: r.ChipId}
}
