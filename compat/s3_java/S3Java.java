import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletionException;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.AsyncResponseTransformer;
import software.amazon.awssdk.core.checksums.RequestChecksumCalculation;
import software.amazon.awssdk.core.checksums.ResponseChecksumValidation;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.LegacyMd5Plugin;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3Configuration;
import software.amazon.awssdk.services.s3.model.ChecksumAlgorithm;
import software.amazon.awssdk.services.s3.model.ChecksumMode;
import software.amazon.awssdk.services.s3.model.Delete;
import software.amazon.awssdk.services.s3.model.NoSuchKeyException;
import software.amazon.awssdk.services.s3.model.ObjectIdentifier;
import software.amazon.awssdk.services.s3.model.S3Exception;
import software.amazon.awssdk.services.s3.model.S3Object;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.transfer.s3.S3TransferManager;

/**
 * Drives a Keystead S3 gateway with the stock AWS SDK for Java v2: `S3Java open|frozen`. It throws where the SDK does,
 * or where what comes back is not what went in. The settings are the SDK's own, save the endpoint and its path style.
 */
final class S3Java {
    static final String BUCKET = "java";
    static final URI ENDPOINT = URI.create(System.getenv("ENDPOINT"));
    static final Region REGION = Region.of(System.getenv("REGION"));
    static final StaticCredentialsProvider WRITER = StaticCredentialsProvider.create(
            AwsBasicCredentials.create(System.getenv("WRITER_ID"), System.getenv("WRITER_SECRET")));

    public static void main(String[] args) throws Exception {
        try (S3Client s3 = S3Client.builder()
                .endpointOverride(ENDPOINT).region(REGION).credentialsProvider(WRITER).forcePathStyle(true).build()) {
            switch (args[0]) {
                case "open" -> {
                    objects(s3);
                    conditions(s3);
                    listings(s3);
                    presigned(s3);
                    transfers(s3);
                    backups(s3);
                }
                case "frozen" -> frozen(s3);
                default -> throw new IllegalArgumentException(args[0]);
            }
        }
        System.out.println(args[0] + " ok");
    }

    static void objects(S3Client s3) {
        s3.createBucket(r -> r.bucket(BUCKET));
        check(s3.listBuckets().buckets().stream().anyMatch(b -> b.name().equals(BUCKET)), "the bucket is listed");
        s3.headBucket(r -> r.bucket(BUCKET));
        for (int size : new int[] {0, 1, 65_536, 3_000_001}) {
            byte[] bytes = bytes(size);
            var put = s3.putObject(r -> r.bucket(BUCKET).key("o/" + size).contentType("text/plain")
                    .metadata(Map.of("owner", "java")), RequestBody.fromBytes(bytes));
            check(put.checksumCRC32() != null, "the SDK's own checksum is answered");
            check(put.serverSideEncryptionAsString().equals("aws:kms"), "it says that it is encrypted");
            // The SDK verifies the checksum of what it reads.
            var got = s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("o/" + size).checksumMode(ChecksumMode.ENABLED));
            check(Arrays.equals(got.asByteArray(), bytes), "the same bytes");
            check(got.response().checksumCRC32().equals(put.checksumCRC32()), "the same checksum");
            var head = s3.headObject(r -> r.bucket(BUCKET).key("o/" + size));
            check(head.contentLength() == size && head.eTag().equals(put.eTag()), "head");
            check(head.contentType().equals("text/plain") && head.metadata().get("owner").equals("java"), "metadata");
        }
        for (ChecksumAlgorithm algorithm : List.of(ChecksumAlgorithm.CRC32_C, ChecksumAlgorithm.SHA1,
                ChecksumAlgorithm.SHA256)) {
            byte[] bytes = bytes(100_000);
            s3.putObject(r -> r.bucket(BUCKET).key("sum").checksumAlgorithm(algorithm), RequestBody.fromBytes(bytes));
            check(Arrays.equals(bytes, read(s3, "sum")), "with " + algorithm);
        }
        var range = s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("o/3000001").range("bytes=65530-65545"));
        check(Arrays.equals(range.asByteArray(), Arrays.copyOfRange(bytes(3_000_001), 65_530, 65_546)), "a range");
        s3.copyObject(r -> r.sourceBucket(BUCKET).sourceKey("o/65536").destinationBucket(BUCKET)
                .destinationKey("a copy/ü +%"));
        check(Arrays.equals(read(s3, "a copy/ü +%"), bytes(65_536)), "a copy under an odd key");
        refused(404, "NoSuchKey", () -> read(s3, "absent"));
        try {
            read(s3, "absent");
        } catch (NoSuchKeyException e) {
            check(e.requestId() != null, "with a request id");
        }
    }

    static void conditions(S3Client s3) {
        RequestBody body = RequestBody.fromString("first");
        var first = s3.putObject(r -> r.bucket(BUCKET).key("once").ifNoneMatch("*"), body);
        refused(412, "PreconditionFailed",
                () -> s3.putObject(r -> r.bucket(BUCKET).key("once").ifNoneMatch("*"), body));
        s3.putObject(r -> r.bucket(BUCKET).key("once").ifMatch(first.eTag()), RequestBody.fromString("second"));
        refused(412, "PreconditionFailed",
                () -> s3.putObject(r -> r.bucket(BUCKET).key("once").ifMatch(first.eTag()), body));
        check(new String(read(s3, "once"), StandardCharsets.UTF_8).equals("second"), "the second stands");
        refused(412, "PreconditionFailed",
                () -> s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("once").ifMatch(first.eTag())));
        String now = s3.headObject(r -> r.bucket(BUCKET).key("once")).eTag();
        refused(304, null, () -> s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("once").ifNoneMatch(now)));
    }

    static void listings(S3Client s3) {
        List<String> keys = java.util.stream.IntStream.range(0, 25).mapToObj(n -> String.format("l/%02d", n)).toList();
        keys.forEach(key -> s3.putObject(r -> r.bucket(BUCKET).key(key), RequestBody.fromString(key)));
        var listed = s3.listObjectsV2Paginator(r -> r.bucket(BUCKET).prefix("l/").maxKeys(10)).contents().stream();
        check(listed.map(S3Object::key).toList().equals(keys), "all pages");
        var folders = s3.listObjectsV2(r -> r.bucket(BUCKET).delimiter("/")).commonPrefixes();
        check(folders.stream().anyMatch(p -> p.prefix().equals("l/")), "a common prefix");
        s3.deleteObject(r -> r.bucket(BUCKET).key(keys.get(0)));
        var rest = keys.stream().map(key -> ObjectIdentifier.builder().key(key).build()).toList();
        var deleted = s3.deleteObjects(r -> r.bucket(BUCKET).delete(Delete.builder().objects(rest).build()));
        check(deleted.deleted().size() == keys.size() && !deleted.hasErrors(), "DeleteObjects");
        check(s3.listObjectsV2(r -> r.bucket(BUCKET).prefix("l/")).keyCount() == 0, "nothing is left");
    }

    /** Links are used by a client that knows no S3. */
    static void presigned(S3Client s3) throws Exception {
        HttpClient http = HttpClient.newHttpClient();
        var style = S3Configuration.builder().pathStyleAccessEnabled(true).build();
        try (S3Presigner presigner = S3Presigner.builder().endpointOverride(ENDPOINT).region(REGION)
                .credentialsProvider(WRITER).serviceConfiguration(style).build()) {
            var put = presigner.presignPutObject(r -> r.signatureDuration(Duration.ofMinutes(5))
                    .putObjectRequest(p -> p.bucket(BUCKET).key("link")));
            byte[] bytes = bytes(200_000);
            var sent = http.send(HttpRequest.newBuilder(put.url().toURI())
                    .PUT(HttpRequest.BodyPublishers.ofByteArray(bytes)).build(), HttpResponse.BodyHandlers.ofString());
            check(sent.statusCode() == 200, "a presigned PUT: " + sent.statusCode() + sent.body());
            var get = presigner.presignGetObject(r -> r.signatureDuration(Duration.ofMinutes(5))
                    .getObjectRequest(p -> p.bucket(BUCKET).key("link")));
            var got = http.send(HttpRequest.newBuilder(get.url().toURI()).build(),
                    HttpResponse.BodyHandlers.ofByteArray());
            check(got.statusCode() == 200 && Arrays.equals(got.body(), bytes), "a presigned GET");
            var forged = http.send(HttpRequest.newBuilder(URI.create(get.url().toString().replace("/link?", "/once?")))
                    .build(), HttpResponse.BodyHandlers.ofString());
            check(forged.statusCode() == 403 && forged.body().contains("SignatureDoesNotMatch"), "of one key only");
        }
    }

    /** The transfer manager's multipart, in parts of 8 MiB. */
    static void transfers(S3Client s3) throws Exception {
        Path in = Path.of(System.getenv("WORK"), "in");
        Path out = Path.of(System.getenv("WORK"), "out");
        Files.write(in, bytes(20_000_003));
        try (S3AsyncClient async = S3AsyncClient.builder().endpointOverride(ENDPOINT).region(REGION)
                        .credentialsProvider(WRITER).forcePathStyle(true).multipartEnabled(true).build();
                S3TransferManager manager = S3TransferManager.builder().s3Client(async).build()) {
            manager.uploadFile(r -> r.source(in).putObjectRequest(p -> p.bucket(BUCKET).key("big")))
                    .completionFuture().join();
            manager.downloadFile(r -> r.destination(out).getObjectRequest(g -> g.bucket(BUCKET).key("big")))
                    .completionFuture().join();
        }
        check(Files.mismatch(in, out) == -1, "the transfer manager's file");
        check(s3.headObject(r -> r.bucket(BUCKET).key("big").partNumber(1)).partsCount() == 3, "three parts");
        check(!s3.listMultipartUploads(r -> r.bucket(BUCKET)).hasUploads(), "no upload is left open");
    }

    /** As the backup store of Zeebe calls S3: async, checksums where S3 demands them, MD5 as before. */
    static void backups(S3Client s3) {
        try (S3AsyncClient async = S3AsyncClient.builder().endpointOverride(ENDPOINT).region(REGION)
                .credentialsProvider(WRITER).forcePathStyle(true)
                .requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
                .responseChecksumValidation(ResponseChecksumValidation.WHEN_REQUIRED)
                .addPlugin(LegacyMd5Plugin.create()).build()) {
            List<String> keys = List.of("backup/1/manifest.json", "backup/1/snapshot", "backup/1/segments/1");
            for (String key : keys) {
                async.putObject(r -> r.bucket(BUCKET).key(key), AsyncRequestBody.fromBytes(bytes(300_000))).join();
                var got = async.getObject(r -> r.bucket(BUCKET).key(key), AsyncResponseTransformer.toBytes()).join();
                check(Arrays.equals(got.asByteArray(), bytes(300_000)), key);
            }
            var ids = keys.stream().map(key -> ObjectIdentifier.builder().key(key).build()).toList();
            var deleted = async.deleteObjects(r -> r.bucket(BUCKET).delete(d -> d.objects(ids))).join();
            check(deleted.deleted().size() == keys.size(), "deleted with Content-MD5");
            try {
                async.headObject(r -> r.bucket(BUCKET).key(keys.get(0))).join();
                throw new AssertionError("it is deleted");
            } catch (CompletionException e) {
                check(e.getCause() instanceof S3Exception s && s.statusCode() == 404, "404");
            }
        }
    }

    /** The key owner has disabled the key: the cause at once, and no attempt more. */
    static void frozen(S3Client s3) {
        List<Runnable> calls = List.of(
                () -> read(s3, "once"),
                () -> s3.putObject(r -> r.bucket(BUCKET).key("new"), RequestBody.fromBytes(bytes(100_000))),
                () -> s3.createMultipartUpload(r -> r.bucket(BUCKET).key("new")));
        for (Runnable call : calls) {
            long begun = System.nanoTime();
            S3Exception e = refused(400, "KMS.DisabledException", call);
            check(e.numAttempts() == 1, "not tried again: " + e.numAttempts());
            check(System.nanoTime() - begun < 5_000_000_000L, "told at once");
        }
    }

    static S3Exception refused(int status, String code, Runnable call) {
        try {
            call.run();
        } catch (S3Exception e) {
            check(e.statusCode() == status, e.toString());
            check(code == null || e.awsErrorDetails().errorCode().equals(code), e.toString());
            return e;
        }
        throw new AssertionError("not refused with " + code);
    }

    static byte[] read(S3Client s3, String key) {
        return s3.getObjectAsBytes(r -> r.bucket(BUCKET).key(key)).asByteArray();
    }

    static byte[] bytes(int size) {
        byte[] bytes = new byte[size];
        new Random(size).nextBytes(bytes);
        return bytes;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
