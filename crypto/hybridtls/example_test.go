package hybridtls_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
)

// A server and a client agree on a hybrid key exchange, and both know the connection by the
// same exporter, to which evidence and signatures are bound.
func Example() {
	certificate, key, err := hybridtls.NewCertificate([]string{"broker.test"}, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		log.Fatal(err)
	}
	serverConfig, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		log.Fatal(err)
	}
	roots, err := hybridtls.Roots(certificate)
	if err != nil {
		log.Fatal(err)
	}
	clientConfig, err := hybridtls.ClientConfig("broker.test", roots, hybridtls.ProfileDefault)
	if err != nil {
		log.Fatal(err)
	}

	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() {
		conn, err := hybridtls.Server(context.Background(), far, serverConfig)
		if err == nil {
			exporter := conn.Exporter()
			_, err = conn.Write(exporter[:])
		}
		served <- err
	}()
	conn, err := hybridtls.Client(context.Background(), near, clientConfig)
	if err != nil {
		log.Fatal(err)
	}
	defer near.Close()
	exporter := conn.Exporter()
	theirs := make([]byte, len(exporter))
	if _, err := io.ReadFull(conn, theirs); err != nil {
		log.Fatal(err)
	}
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	fmt.Println(conn.Group(), string(theirs) == string(exporter[:]))
	// Output: X25519MLKEM768 true
}
